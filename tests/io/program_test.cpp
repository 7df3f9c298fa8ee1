#include <catch2/catch.hpp>
#include <string>

#include "mutations.hpp"
#include "one_sentence.hpp"
#include "pt2_archive.hpp"
#include "replaced.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::replaced;

using namespace test;

Program with_model(const std::string& model_json) {
  return parse_program("m.pt2", archive_with(model_json, linear_weights_json()));
}

TEST_CASE("a program's nodes, inputs, modules and weights are read", "[program]") {
  const Program program = parse_program("m.pt2", linear_archive());
  REQUIRE(program.graph.nodes.size() == 2);
  const Node& linear = program.graph.nodes[0];
  CHECK(linear.target == "torch.ops.aten.linear.default");
  CHECK(linear.inputs[1].name == "weight");
  CHECK(std::get<TensorName>(linear.inputs[1].argument).name == "p_w");
  CHECK(linear.module_stack.back().path == "fc");
  CHECK(innermost_source_line(linear.stack_trace) == "/home/u/model.py:7 in forward");
  REQUIRE(program.input_specs.size() == 2);
  CHECK(program.input_specs[0].kind == InputSpec::Kind::parameter);
  CHECK(program.input_specs[0].target == "fc.weight");
  CHECK(program.module_paths == std::vector<std::string>{"fc"});
  CHECK(program.graph.tensors.at("x").sizes == std::vector<std::int64_t>{4, 3});
  CHECK_FALSE(program.has_no_values);
  CHECK(check_program(program).empty());
}

TEST_CASE("tied weights name one record, whose bytes are located in the file", "[program]") {
  const std::string archive = linear_archive();
  const Program program = parse_program("m.pt2", archive);
  const ProgramTensor& weight = program.weights.at("fc.weight");
  CHECK(weight.record == program.weights.at("tied.weight").record);
  CHECK(weight.range.bytes == 24);
  CHECK(archive.substr(weight.range.offset, 24) == std::string(24, '\0'));
  CHECK(archive.substr(weight.range.offset - 8, 8) == "weight_0");
}

TEST_CASE("an archive whose weights are empty is a program without values", "[program]") {
  ZipWriter zip;
  zip.add("m/data/weights/weight_0", "");
  zip.add("m/data/weights/model_weights_config.json", linear_weights_json());
  zip.add("m/models/model.json", linear_model_json());
  CHECK(parse_program("m.pt2", zip.finish()).has_no_values);
}

TEST_CASE("every kind of argument is read", "[program]") {
  const auto argument = [](const std::string& json) {
    const Program program = with_model(replaced(
        linear_model_json(), R"({"name":"self","arg":{"as_tensor":{"name":"y"}},"kind":1})",
        R"({"name":"self","arg":)" + json + R"(,"kind":1})"));
    return program.graph.nodes[1].inputs[0].argument;
  };
  CHECK(std::holds_alternative<NullValue>(argument(R"({"as_none":true})")));
  CHECK(std::get<bool>(argument(R"({"as_bool":true})")));
  CHECK(std::get<std::string>(argument(R"({"as_string":"mean"})")) == "mean");
  CHECK(std::get<ScalarType>(argument(R"({"as_scalar_type":13})")) == ScalarType::bfloat16);
  CHECK(std::get<MemoryFormat>(argument(R"({"as_memory_format":2})")) ==
        MemoryFormat::channels_last);
  CHECK(std::get<DeviceSpec>(argument(R"({"as_device":{"type":"cuda","index":1}})")).index == 1);
  const auto infinity = std::get<SymbolicFloat>(argument(R"({"as_float":"-Infinity"})"));
  CHECK(std::get<double>(infinity) == -std::numeric_limits<double>::infinity());
  const auto mixed = std::get<std::vector<SymbolicInt>>(
      argument(R"({"as_sym_ints":[{"as_int":3},{"as_name":"s0"}]})"));
  CHECK(std::get<std::int64_t>(mixed[0]) == 3);
  CHECK(std::get<SymbolName>(mixed[1]).name == "s0");
  CHECK(std::get<UnsupportedArgument>(argument(R"({"as_custom_obj":{"name":"q"}})")).kind ==
        "as_custom_obj");
  const auto optional = std::get<std::vector<std::optional<TensorName>>>(
      argument(R"({"as_optional_tensors":[{"as_none":true},{"as_tensor":{"name":"y"}}]})"));
  CHECK_FALSE(optional[0].has_value());
  CHECK(optional[1]->name == "y");
}

TEST_CASE("other schema versions and other archives are refused with the remedy", "[program]") {
  CHECK_THROWS_WITH(with_model(replaced(linear_model_json(), R"("major":8)", R"("major":9)")),
                    Catch::Contains("PyTorch 2.11"));
  CHECK_NOTHROW(with_model(replaced(linear_model_json(), R"("minor":17)", R"("minor":99)")));
  const auto with_record = [](const std::string& record) {
    ZipWriter zip;
    zip.add("m/" + record, "x");
    return zip.finish();
  };
  CHECK_THROWS_WITH(parse_program("m.pt2", with_record("serialized_exported_program.json")),
                    Catch::Contains("old PyTorch"));
  CHECK_THROWS_WITH(parse_program("m.pt2", with_record("constants.pkl")),
                    Catch::Contains("TorchScript"));
  CHECK_THROWS_WITH(parse_program("m.pt2", with_record("data.pkl")),
                    Catch::Contains("torch.export.save"));
}

TEST_CASE("what cannot run is found without running", "[program]") {
  const auto findings = [](const std::string& target) {
    return check_program(
        with_model(replaced(linear_model_json(), "torch.ops.aten.sum.default", target)));
  };
  CHECK(findings("torch.ops.higher_order.cond").size() == 1);
  CHECK(findings("torch.ops.transformers.grouped_mm_fallback.default").size() == 1);
  CHECK(findings("some_module.helper").size() == 1);
  CHECK(findings("_operator.mul").empty());
  const auto found = findings("torch.ops.higher_order.tag_activation_checkpoint");
  REQUIRE(found.size() == 1);
  CHECK(found[0].node == "sum_1");
  CHECK_THAT(found[0].message, Catch::Contains("checkpointing turned off"));
}

TEST_CASE("a program in evaluation mode is recognised", "[program]") {
  const auto program_with = [](const std::string& train) {
    return with_model(replaced(
        replaced(linear_model_json(), "torch.ops.aten.sum.default",
                 "torch.ops.aten.dropout.default"),
        R"({"name":"self","arg":{"as_tensor":{"name":"y"}},"kind":1})",
        R"({"name":"input","arg":{"as_tensor":{"name":"y"}},"kind":1},{"name":"train","arg":{"as_bool":)" +
            train + R"(},"kind":1})"));
  };
  const auto findings = check_program(program_with("false"));
  REQUIRE(findings.size() == 1);
  CHECK_THAT(findings[0].message, Catch::Contains("model.train()"));
  CHECK(check_program(program_with("true")).empty());
}

TEST_CASE("a shape that reaches past its stored bytes is refused", "[program]") {
  const std::string weights = replaced(linear_weights_json(), R"({"as_int":2},{"as_int":3})",
                                       R"({"as_int":9},{"as_int":3})");
  CHECK_THROWS_WITH(parse_program("m.pt2", archive_with(linear_model_json(), weights)),
                    Catch::Contains("past its stored bytes"));
}

TEST_CASE("a broken archive is refused in one sentence", "[program][mutation]") {
  const std::string archive = linear_archive();
  int refused = 0;
  for (unsigned n = 0; n < 1500; ++n) {
    const std::string broken = mutated(archive, n);
    refused += succeeds_or_says_why("m.pt2", [&] { (void)parse_program("m.pt2", broken); }) ? 0 : 1;
  }
  CHECK(refused > 500);
}

TEST_CASE("a broken description inside a sound archive is refused in one sentence",
          "[program][mutation]") {
  const std::string model = linear_model_json();
  const std::string weights = linear_weights_json();
  int refused = 0;
  for (unsigned n = 0; n < 1500; ++n) {
    const std::string broken = n % 4 == 0 ? archive_with(model, mutated(weights, n))
                                          : archive_with(mutated(model, n), weights);
    const bool is_read =
        succeeds_or_says_why("m.pt2", [&] { (void)check_program(parse_program("m.pt2", broken)); });
    refused += is_read ? 0 : 1;
  }
  CHECK(refused > 500);
}

}  // namespace
}  // namespace tidemark
