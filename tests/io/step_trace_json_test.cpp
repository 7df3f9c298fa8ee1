#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "one_sentence.hpp"
#include "random_trace.hpp"
#include "replaced.hpp"
#include "structural_damage.hpp"
#include "temporary_folder.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::replaced;

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;
using test::RandomTrace;
using test::succeeds_or_says_why;
using test::TemporaryFolder;

// Everything that is optional left out.
StepTrace smallest_trace() {
  StepTrace trace;
  trace.storages.resize(2);
  trace.storages[0] = {.bytes = 40,
                       .role = Role::parameter,
                       .name = "w",
                       .device = "",
                       .freed_after = {},
                       .value = {}};
  trace.storages[1].bytes = 4;
  Op op;
  op.name = "aten::sum";
  op.reads = {StorageId{0}};
  op.creates = {StorageId{1}};
  op.duration = Nanoseconds(12000);
  trace.ops = {op};
  trace.keep = {StorageId{1}};
  return trace;
}

StepTrace trace_with_argument(CallValue value) {
  StepTrace trace = smallest_trace();
  trace.ops[0].call = Call{.overload = "", .arguments = {std::move(value)}, .results = {}};
  return trace;
}

CallValue argument_after_a_round_trip(const CallValue& value) {
  const std::string text = format_step_trace(trace_with_argument(value));
  return parse_step_trace("s.json", text).ops.at(0).call->arguments.at(0);
}

TEST_CASE("the file holds the documented fields in the documented order", "[step_trace_json]") {
  CHECK(format_step_trace(smallest_trace()) ==
        R"({"format":"tidemark.step","schema_version":1,"device":{"kind":"unknown","name":""},)"
        R"("rank":0,"world_size":1,"groups":[],"provenance":{"seed":0},"modules":[],)"
        R"("storages":[{"id":0,"bytes":40,"role":"parameter","name":"w"},)"
        R"({"id":1,"bytes":4,"role":"activation"}],)"
        R"("ops":[{"id":0,"name":"aten::sum","phase":"forward","reads":[0],"writes":[],)"
        R"("creates":[1],"duration_ns":12000,"workspace_bytes":0}],)"
        R"("keep":[1],"gradients":[],"outputs":[]})"
        "\n");
}

TEST_CASE("every optional field has its documented form", "[step_trace_json]") {
  StepTrace trace = smallest_trace();
  trace.device = {.kind = DeviceKind::cpu,
                  .name = "c",
                  .threads = 2,
                  .copy_bytes_per_second = 1.5e9,
                  .transfer_rates = TransferRates{.pinned_to_device = 1,
                                                  .pinned_to_host = 2,
                                                  .pageable_to_device = 3,
                                                  .pageable_to_host = 4.5},
                  .memory_bytes = 1000,
                  .context_bytes = 10};
  trace.groups = {{0, 1}};
  trace.provenance.calls_without_answer = {
      {.name = "cuDNN batch norm", .answer = PhantomAnswer::modelled, .times = 3},
      {.name = "cufftExecC2C", .answer = PhantomAnswer::refused, .times = 1}};
  trace.modules = {{"blocks.0",
                    "Block",
                    {{.view = {.storage = StorageId{0},
                               .dtype = ScalarType::float32,
                               .sizes = {2},
                               .strides = {5},
                               .offset = 1,
                               .is_wrapped_number = false,
                               .is_conjugated = false,
                               .is_negated = false},
                      .is_view = true}}}};
  trace.storages[0].device = "cpu";
  trace.storages[0].value = std::vector<std::uint8_t>(40, 0);
  Op& op = trace.ops[0];
  op.module = "blocks.0";
  op.allocations = {{.is_free = false, .bytes = 4, .storage = StorageId{1}, .temporary = -1},
                    {.is_free = false, .bytes = 9, .storage = no_storage, .temporary = 0},
                    {.is_free = true, .bytes = 9, .storage = no_storage, .temporary = 0}};
  op.flags.random = true;
  op.flags.statistics = true;
  op.forward_ops = {OpId{0}};
  op.source = "m.py:1";
  op.group = 0;
  op.call = Call{.overload = "out", .arguments = {{NullValue{}}}, .results = {}};
  op.no_grad = NoGradForm{.omits = {StorageId{1}},
                          .workspace_bytes = 5,
                          .allocations = std::vector<AllocationEvent>{},
                          .call = op.call};
  trace.loss = StorageId{1};
  trace.gradients = {{StorageId{0}, TensorView{.storage = StorageId{1},
                                               .dtype = ScalarType::float32,
                                               .sizes = {1},
                                               .strides = {1},
                                               .offset = 0,
                                               .is_wrapped_number = false,
                                               .is_conjugated = false,
                                               .is_negated = false}}};
  const std::string text = format_step_trace(trace);
  for (const char* part :
       {R"("device":{"kind":"cpu","name":"c","threads":2,"copy_bytes_per_second":1500000000.0,)"
        R"("transfer_rates":{"pinned_to_device":1.0,"pinned_to_host":2.0,)"
        R"("pageable_to_device":3.0,"pageable_to_host":4.5},)"
        R"("memory_bytes":1000,"context_bytes":10})",
        R"("groups":[[0,1]],"provenance":{"seed":0,"calls_without_answer":[)"
        R"({"name":"cuDNN batch norm","answer":"modelled","times":3},)"
        R"({"name":"cufftExecC2C","answer":"refused","times":1}]})",
        R"("modules":[{"path":"blocks.0","class":"Block","inputs":[{"tensor":{"storage":0,)"
        R"("dtype":"float32","sizes":[2],"strides":[5],"offset":1,"wrapped":false,"conj":false,)"
        R"("neg":false},"is_view":true}]}])",
        R"("name":"w","device":"cpu","value":"AAAA)", R"("phase":"forward","module":"blocks.0",)",
        R"("allocations":[{"allocate":4,"storage":1},{"allocate":9,"temporary":0},)"
        R"({"free":9,"temporary":0}],"flags":["random","statistics"],"forward_ops":[0],)"
        R"("source":"m.py:1","group":0,"call":{"overload":"out","args":[null],"results":[]},)"
        R"("no_grad":{"omits":[1],"workspace_bytes":5,"allocations":[],)"
        R"("call":{"overload":"out","args":[null],"results":[]}}})",
        R"("keep":[1],"loss":1,"gradients":[{"parameter":0,"tensor":{"storage":1,)"
        R"("dtype":"float32","sizes":[1],"strides":[1],"offset":0,"wrapped":false,"conj":false,)"
        R"("neg":false}}],"outputs":[]})"}) {
    CHECK_THAT(text, Contains(part));
  }
  CHECK(parse_step_trace("s.json", text) == trace);
}

TEST_CASE("random traces are equal after writing and reading", "[step_trace_json][property]") {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    StepTrace trace = RandomTrace(seed).trace();
    trace.recomputation_workspace_bytes = static_cast<Bytes>(seed % 3) * 1024;
    REQUIRE(check_trace(trace) == std::vector<std::string>{});
    const std::string text = format_step_trace(trace);
    CAPTURE(seed, text);
    REQUIRE(text.find('\n') == text.size() - 1);
    const StepTrace read = parse_step_trace("s.json", text);
    REQUIRE(read == trace);
    REQUIRE(format_step_trace(read) == text);
  }
}

TEST_CASE("a floating scalar comes back bit for bit", "[step_trace_json]") {
  for (const double value :
       {0.0, 1.0, 0.1, 1.0 / 3, 1e22, 1e23, 123456789012345678.0, 9007199254740993.0,
        std::numeric_limits<double>::max(), std::numeric_limits<double>::min(),
        std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::epsilon(),
        std::nextafter(1.0, 2.0), std::numeric_limits<double>::infinity()}) {
    CHECK(argument_after_a_round_trip({value}) == CallValue{value});
    CHECK(argument_after_a_round_trip({-value}) == CallValue{-value});
  }
  const CallValue zero = argument_after_a_round_trip({-0.0});
  CHECK(std::signbit(std::get<double>(zero.value)));
  const CallValue nan = argument_after_a_round_trip({std::numeric_limits<double>::quiet_NaN()});
  CHECK(std::isnan(std::get<double>(nan.value)));
}

TEST_CASE("a whole scalar keeps its kind and all of its digits", "[step_trace_json]") {
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, (std::int64_t{1} << 53) + 1,
        std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()}) {
    CHECK(argument_after_a_round_trip({value}) == CallValue{value});
  }
  CHECK_FALSE(argument_after_a_round_trip({std::int64_t{1}}) == CallValue{1.0});
}

TEST_CASE("lists keep what they hold, empty and nested", "[step_trace_json]") {
  const CallList empty{.of = "tensor?", .items = {}};
  const CallList nested{.of = "list", .items = {{empty}, {NullValue{}}, {std::int64_t{3}}}};
  CHECK(argument_after_a_round_trip({empty}) == CallValue{empty});
  CHECK(argument_after_a_round_trip({nested}) == CallValue{nested});
}

TEST_CASE("a wrong field is refused by its place", "[step_trace_json]") {
  struct Case {
    const char* from;
    const char* to;
    const char* message;
  };
  const std::string text = format_step_trace(trace_with_argument({std::int64_t{1}}));
  const std::vector<Case> cases{
      {R"("reads":[0])", R"("reads":["0"])", "s.json: ops[0].reads[0]: is not a whole number"},
      {R"("reads":[0])", R"("reads":[0.5])", "s.json: ops[0].reads[0]: is not a whole number"},
      {R"("reads":[0])", R"("reads":[2147483648])", "s.json: ops[0].reads[0]: is out of range"},
      {R"("reads":[0])", R"("reads":[-1])", "s.json: ops[0].reads[0]: is out of range"},
      {R"("reads":[0])", R"("reads":{})", "s.json: ops[0].reads: is not a list"},
      {R"("reads":[0],)", "", R"(s.json: ops[0]: has no "reads")"},
      {R"("reads":[0])", R"("reads":[1])", "s.json: operator 0 (aten::sum) uses storage 1"},
      {R"("bytes":40)", R"("bytes":-1)", "s.json: storages[0].bytes: is out of range"},
      {R"("bytes":40)", R"("bytes":1e3)", "s.json: storages[0].bytes: is not a whole number"},
      {R"("bytes":40)", R"("bytes":18446744073709551615)", "s.json: storages[0].bytes: is out of"},
      {R"("bytes":40)", R"("bytes":9223372036854775807)", "s.json: the bytes of the step add up"},
      {R"("bytes":40)", R"("bytes":1e999)", "s.json: holds a number that is too large"},
      {R"("id":1,)", R"("id":0,)", "s.json: storages[1]: its id is not its position"},
      {R"("role":"parameter")", R"("role":"a\nb")",
       R"(s.json: storages[0].role: has the unknown value "a?b")"},
      {R"("name":"w")", R"("name":7)", "s.json: storages[0].name: is not a text"},
      {R"("name":"w")", R"("value":"AAA")", "s.json: storages[0].value: is not base64"},
      {R"("name":"w")", R"("value":"AAAA")", "s.json: storage 0 carries 3 bytes of value"},
      {R"("name":"w")", R"("freed_after":1)", "s.json: storage 0 is freed after an operator"},
      {R"("phase":"forward")", R"("phase":"sideways")", "s.json: ops[0].phase: has the unknown"},
      {R"("duration_ns":12000)", R"("duration_ns":-1)", "s.json: ops[0].duration_ns: is out of"},
      {R"("duration_ns":12000)", R"("duration_ns":9223372036854775807)",
       "s.json: the operators take more than a year"},
      {R"("workspace_bytes":0)", R"("workspace_bytes":0,"flags":["fast"])",
       "s.json: ops[0].flags[0]: is an unknown flag"},
      {R"("workspace_bytes":0)", R"("workspace_bytes":0,"allocations":[{"allocate":1}])",
       R"(s.json: ops[0].allocations[0]: has no "temporary")"},
      {R"({"i":1})", R"({"i":1.0})", "s.json: ops[0].call.args[0].i: is not a whole number"},
      {R"({"i":1})", R"({"x":1})", "s.json: ops[0].call.args[0]: is of an unknown kind"},
      {R"({"i":1})", R"({"i":1,"f":1})", "s.json: ops[0].call.args[0]: is not an object with one"},
      {R"({"i":1})", R"(1)", "s.json: ops[0].call.args[0]: is not an object"},
      {R"({"i":1})", R"({"f":"infinity"})", "s.json: ops[0].call.args[0].f: is not a number"},
      {R"({"i":1})", R"({"dtype":"float31"})", "s.json: ops[0].call.args[0].dtype: is an unknown"},
      {R"({"i":1})", R"({"list":[{"i":"1"}],"of":"int"})",
       "s.json: ops[0].call.args[0].list[0].i: is not a whole number"},
      {R"({"i":1})", R"({"list":[]})", "s.json: ops[0].call.args[0]: is not an object with the"},
      {R"({"i":1})", R"({"t":{"storage":0,"dtype":"int8","sizes":[2],"strides":[],"offset":0}})",
       "s.json: ops[0].call.args[0].t: has not as many strides as sizes"},
      {R"({"i":1})", R"({"t":{"storage":0,"dtype":"int8","sizes":[41],"strides":[1],"offset":0}})",
       "s.json: operator 0 (aten::sum) is called with a tensor that reaches past the end"},
      {R"({"seed":0})", R"({"calls_without_answer":{}})",
       "s.json: provenance.calls_without_answer: is not a list"},
      {R"({"seed":0})", R"({"calls_without_answer":[{"answer":"ignored","times":1}]})",
       R"(s.json: provenance.calls_without_answer[0]: has no "name")"},
      {R"({"seed":0})", R"({"calls_without_answer":[{"name":"f","answer":"no","times":1}]})",
       R"(s.json: provenance.calls_without_answer[0].answer: has the unknown value "no")"},
      {R"({"seed":0})", R"({"calls_without_answer":[{"name":"f","answer":"ignored","times":0}]})",
       "s.json: provenance.calls_without_answer[0].times: is out of range"},
      {R"("modules":[])", R"("modules":[{"path":"m","class":"M","inputs":[{"is_view":true}]}])",
       R"(s.json: modules[0].inputs[0]: has no "tensor")"},
      {R"("modules":[])",
       R"("modules":[{"path":"m","class":"M","inputs":[{"is_view":1,"tensor":{"storage":0,)"
       R"("dtype":"int8","sizes":[2],"strides":[1],"offset":0}}]}])",
       "s.json: modules[0].inputs[0].is_view: is not true or false"},
      {R"("modules":[])",
       R"("modules":[{"path":"m","class":"M","inputs":[{"is_view":true,"tensor":{"storage":0,)"
       R"("dtype":"int8","sizes":[41],"strides":[1],"offset":0}}]}])",
       "s.json: module m is given a tensor that reaches past the end of storage 0"},
      {R"("rank":0)", R"("rank":1)", "s.json: rank: is not below world_size"},
      {R"("world_size":1)", R"("world_size":0)", "s.json: world_size: is out of range"},
      {R"("keep":[1])", R"("keep":[2])", "s.json: keep names storage 2"},
      {R"("keep":[1])", R"("keep":1)", "s.json: keep: is not a list"},
      {R"("schema_version":1)", R"("schema_version":2)",
       "s.json: schema_version: is 2: a newer tidemark wrote this file"},
      {R"("schema_version":1)", R"("schema_version":"1")",
       "s.json: schema_version: is not a whole"},
      {R"("tidemark.step")", R"("tidemark.sweep")", "s.json: is a tidemark.sweep file where"},
      {R"("tidemark.step")", R"(7)", "s.json: is not a tidemark.step file"},
  };
  for (const Case& each : cases) {
    CHECK_THROWS_WITH(parse_step_trace("s.json", replaced(text, each.from, each.to)),
                      StartsWith(each.message));
  }
}

TEST_CASE("what is no JSON is refused by line and column", "[step_trace_json]") {
  CHECK_THROWS_WITH(parse_step_trace("s.json", ""), StartsWith("s.json: line 1, column 1: "));
  CHECK_THROWS_WITH(parse_step_trace("s.json", "{\n  \"a\": 1,\n  ?"),
                    StartsWith("s.json: line 3, column 3: is not valid JSON"));
  CHECK_THROWS_WITH(parse_step_trace("s.json", std::string(1'000'000, '[')),
                    StartsWith("s.json: is nested deeper"));
  CHECK_THROWS_WITH(parse_step_trace("s.json", "[]"), StartsWith("s.json: is not a tidemark.step"));
}

TEST_CASE("damaged structure is read or refused in one sentence", "[step_trace_json][mutation]") {
  int refused = 0;
  int accepted = 0;
  for (std::uint32_t n = 0; n < 3000; ++n) {
    const std::string text = format_step_trace(RandomTrace(n % 30).trace());
    const std::string damaged = test::structurally_damaged(text, n);
    CAPTURE(n);
    const bool is_read = succeeds_or_says_why("s.json", [&] {
      const StepTrace trace = parse_step_trace("s.json", damaged);
      // What was accepted is a trace like any other.
      const std::string again = format_step_trace(trace);
      CHECK(format_step_trace(parse_step_trace("s.json", again)) == again);
    });
    (is_read ? accepted : refused) += 1;
  }
  // Many texts are free, so that both must happen.
  CHECK(refused > 1000);
  CHECK(accepted > 100);
}

std::string raw_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_raw(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

TEST_CASE("a trace file is compressed by its name and read by its content", "[step_trace_json]") {
  const TemporaryFolder folder;
  const StepTrace trace = RandomTrace(3).trace();
  write_step_trace(trace, folder / "step.json.gz");
  write_step_trace(trace, folder / "step.json");
  CHECK(raw_content(folder / "step.json") == format_step_trace(trace));
  CHECK(raw_content(folder / "step.json.gz").substr(0, 2) == "\x1f\x8b");
  CHECK(read_step_trace(folder / "step.json.gz") == trace);
  std::filesystem::rename(folder / "step.json.gz", folder / "step.json");
  CHECK(read_step_trace(folder / "step.json") == trace);
}

TEST_CASE("a truncated or flipped gzip file is refused in one sentence",
          "[step_trace_json][mutation]") {
  const TemporaryFolder folder;
  const std::string path = folder / "step.json.gz";
  const StepTrace trace = RandomTrace(5).trace();
  write_step_trace(trace, path);
  const std::string whole = raw_content(path);
  for (std::size_t length = 0; length < whole.size(); length += 1 + whole.size() / 200) {
    write_raw(path, whole.substr(0, length));
    CHECK_FALSE(succeeds_or_says_why(path, [&] { (void)read_step_trace(path); }));
  }
  for (std::size_t at = 0; at < whole.size(); at += 1 + whole.size() / 200) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    write_raw(path, flipped);
    // Only the header holds bits that mean nothing to us.
    StepTrace read = trace;
    succeeds_or_says_why(path, [&] { read = read_step_trace(path); });
    CHECK(read == trace);
  }
}

}  // namespace
}  // namespace tidemark
