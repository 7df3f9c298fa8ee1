#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "block_chain.hpp"
#include "mutations.hpp"
#include "one_sentence.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::mutated;
using test::succeeds_or_says_why;

// A trace with a value of every kind in a call.
StepTrace full_trace() {
  StepTrace trace = BlockChain(2).trace();
  trace.device = {.kind = DeviceKind::cpu,
                  .name = "a \"processor\"",
                  .threads = 2,
                  .copy_bytes_per_second = 1.0 / 3};
  trace.provenance = {.tool = "tidemark 0",
                      .command_line = "x",
                      .created = "now",
                      .model = "m.pt2",
                      .framework = "torch",
                      .host = "h",
                      .seed = -5};
  trace.storages[0].value = std::vector<std::uint8_t>{0, 1, 2, 3, 4, 5, 6, 7, 254, 255};
  trace.outputs = {trace.keep.front()};
  TensorView view{.storage = make_id<StorageId>(0),
                  .dtype = ScalarType::bfloat16,
                  .sizes = {2, 2},
                  .strides = {2, 1},
                  .offset = 1,
                  .is_wrapped_number = true};
  const double infinity = std::numeric_limits<double>::infinity();
  Call call{.overload = "Tensor",
            .arguments = {{NullValue{}},
                          {view},
                          {std::int64_t{1}},
                          {1.0},
                          {0.1},
                          {infinity},
                          {-infinity},
                          {true},
                          {std::string("mean")},
                          {ScalarType::int64},
                          {DeviceValue{"cpu"}},
                          {Layout::strided},
                          {MemoryFormat::channels_last},
                          {DefaultGenerator{}},
                          {CallList{.of = "tensor?", .items = {{view}, {NullValue{}}}}},
                          {CallList{.of = "int", .items = {}}}},
            .results = {{view}}};
  trace.ops[1].call = call;
  trace.ops[1].flags = {
      .random = true, .statistics = true, .host_sync = true, .not_recomputable = true};
  trace.ops[1].allocations = {{.is_free = false, .bytes = 100, .storage = trace.ops[1].creates[0]},
                              {.is_free = false, .bytes = 8, .temporary = 0},
                              {.is_free = true, .bytes = 8, .temporary = 0}};
  trace.ops[1].source = "model.py:3 in forward";
  trace.ops[1].group = 0;
  return trace;
}

TEST_CASE("a trace that is written and read is equal", "[step_trace]") {
  const StepTrace trace = full_trace();
  const std::string text = format_step_trace(trace);
  CHECK(parse_step_trace("s.json", text) == trace);
  CHECK(format_step_trace(parse_step_trace("s.json", text)) == text);
}

TEST_CASE("whole and floating scalars stay distinct in the file", "[step_trace]") {
  const std::string text = format_step_trace(full_trace());
  CHECK_THAT(text, Catch::Contains(R"({"i":1},{"f":1.0})"));
  CHECK_THAT(text, Catch::Contains(R"({"f":"inf"},{"f":"-inf"})"));
}

TEST_CASE("what an importer cannot know may be absent", "[step_trace]") {
  const std::string text = R"({"format": "tidemark.step", "schema_version": 1,
    "device": {"kind": "unknown"}, "storages": [{"id": 0, "bytes": 8, "role": "parameter"},
    {"id": 1, "bytes": 8, "role": "activation"}],
    "ops": [{"id": 0, "name": "f", "phase": "forward", "reads": [0], "writes": [], "creates": [1]}],
    "keep": [1]})";
  const StepTrace trace = parse_step_trace("s.json", text);
  CHECK(trace.ops.size() == 1);
  CHECK_FALSE(is_executable(trace));
}

TEST_CASE("foreign, newer and inconsistent files are refused", "[step_trace]") {
  const std::string text = format_step_trace(full_trace());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const std::size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    return changed.replace(at, from.size(), to);
  };
  CHECK_THROWS_WITH(parse_step_trace("s.json", "{}"), Catch::Contains("not a tidemark.step file"));
  CHECK_THROWS_WITH(
      parse_step_trace("s.json", with("\"schema_version\":1", "\"schema_version\":2")),
      Catch::Contains("newer tidemark"));
  CHECK_THROWS_WITH(parse_step_trace("s.json", with("\"reads\":[0]", "\"reads\":[7777]")),
                    Catch::Contains("7777"));
  CHECK_THROWS_WITH(parse_step_trace("s.json", with("\"reads\":[0]", "\"reads\":[\"a\"]")),
                    Catch::Contains("ops[0].reads[0]"));
  CHECK_THROWS_WITH(parse_step_trace("s.json", text.substr(0, text.size() / 2)),
                    Catch::Contains("truncated"));
}

TEST_CASE("a broken trace is refused in one sentence", "[step_trace][mutation]") {
  const std::string text = format_step_trace(full_trace());
  int refused = 0;
  for (unsigned n = 0; n < 2000; ++n) {
    const std::string broken = mutated(text, n);
    const bool is_read = succeeds_or_says_why("s.json", [&] {
      // What was read must bear everything that is done with a trace.
      const StepTrace trace = parse_step_trace("s.json", broken);
      (void)fingerprint(trace);
      auto built =
          build_schedule(trace, find_blocks(trace), {.number_checkpoints = 2, .segments = {}});
      if (auto* valid = std::get_if<BuiltSchedule>(&built)) (void)simulate(trace, valid->schedule);
    });
    refused += is_read ? 0 : 1;
  }
  CHECK(refused > 500);
}

}  // namespace
}  // namespace tidemark
