#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "base64.hpp"
#include "one_sentence.hpp"
#include "replaced.hpp"
#include "sample_sweep.hpp"
#include "structural_damage.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::replaced;

using Catch::Matchers::StartsWith;
using test::succeeds_or_says_why;

// All six kinds of step, all places and queues, and an unnamed instance.
Schedule every_step() {
  Schedule schedule;
  schedule.initial_instances = 1;
  for (std::uint8_t place = 0; place < 4; ++place) {
    schedule.instances.push_back({.storage = StorageId{place},
                                  .number = place,
                                  .bytes = 100 + place,
                                  .place = static_cast<Place>(place),
                                  .term = static_cast<Term>(3 * place)});
  }
  schedule.instances.push_back({.storage = no_storage, .number = 0, .bytes = 5056});
  const auto id = [](int value) { return static_cast<InstanceId>(value); };
  schedule.steps = {
      {.action = Run{.op = OpId{3},
                     .reads = {id(0)},
                     .writes = {id(1)},
                     .creates = {id(2), unnamed_instance}},
       .cause = Cause::recompute},
      {.action = Allocate{id(3)}, .cause = Cause::offload},
      {.action = Copy{.from = id(2),
                      .to = id(3),
                      .from_offset = 1,
                      .to_offset = 2,
                      .bytes = 50,
                      .queue = Queue::offload},
       .cause = Cause::partition},
      {.action = Wait{.queue = Queue::fetch, .event = StepId{2}}, .cause = Cause::fetch},
      {.action = Collective{.kind = CollectiveKind::all_gather,
                            .group = 1,
                            .inputs = {id(1), id(2)},
                            .output = id(3)},
       .cause = Cause::gather},
      {.action = Free{id(2)}, .cause = Cause::generator_state},
  };
  return schedule;
}

RowDetail sample_detail() {
  RowDetail detail;
  detail.fingerprint = "0123";
  detail.row = test::sample_yours();
  detail.schedule = every_step();
  detail.predicted = MemoryTimeline{.live_bytes = {1, 2, 3},
                                    .host_bytes = {0, 0, 9},
                                    .allocated_bytes = {512, 512, 1024},
                                    .reserved_bytes = {2048, 2048, 2048}};
  return detail;
}

TEST_CASE("all six kinds of step survive writing and reading", "[row_detail_json]") {
  RowDetail detail = sample_detail();
  CHECK(parse_row_detail("r.json", format_row_detail(detail)) == detail);
  detail.measured = detail.predicted;
  detail.predicted.reset();
  CHECK(parse_row_detail("r.json", format_row_detail(detail)) == detail);
}

TEST_CASE("every cause of a step survives writing and reading", "[row_detail_json]") {
  RowDetail detail = sample_detail();
  for (std::uint8_t cause = 0; cause <= static_cast<std::uint8_t>(Cause::restore_state); ++cause) {
    detail.schedule.steps[0].cause = static_cast<Cause>(cause);
    CHECK(parse_row_detail("r.json", format_row_detail(detail)) == detail);
  }
}

TEST_CASE("a schedule that names what is not there is refused by its place", "[row_detail_json]") {
  struct Case {
    const char* from;
    const char* to;
    const char* message;
  };
  const std::string text = format_row_detail(sample_detail());
  const std::vector<Case> cases{
      {R"("initial_instances":1)", R"("initial_instances":6)",
       "r.json: schedule.initial_instances: is larger than the number of instances"},
      {R"("initial_instances":1)", R"("initial_instances":-1)",
       "r.json: schedule.initial_instances: is out of range"},
      {R"("reads":[0])", R"("reads":[5])",
       "r.json: schedule: steps[0] names an instance that is not listed"},
      {R"("creates":[2,-1])", R"("creates":[2,-2])",
       "r.json: schedule.steps[0].creates[1]: is out of range"},
      {R"("allocate":3)", R"("allocate":5)", "r.json: schedule: steps[1] names an instance"},
      {R"("copy":2)", R"("copy":5)", "r.json: schedule: steps[2] names an instance"},
      {R"("to":3)", R"("to":5)", "r.json: schedule: steps[2] names an instance"},
      {R"("event":2)", R"("event":3)",
       "r.json: schedule: steps[3] waits for a step that is not an earlier one"},
      {R"("inputs":[1,2])", R"("inputs":[1,5])", "r.json: schedule: steps[4] names an instance"},
      {R"("output":3)", R"("output":5)", "r.json: schedule: steps[4] names an instance"},
      {R"("free":2)", R"("free":5)", "r.json: schedule: steps[5] names an instance"},
      {R"("free":2)", R"("release":2)",
       "r.json: schedule.steps[5]: is none of the six kinds of step"},
      {R"("queue":"offload")", R"("queue":"tram")", "r.json: schedule.steps[2].queue: has the"},
      {R"("place":"peer")", R"("place":"moon")", "r.json: schedule.instances[3].place: has the"},
      {R"("live_bytes":[1,2,3])", R"("live_bytes":[1,-2,3])",
       "r.json: predicted_timeline.live_bytes[1]: is out of range"},
      {R"("tidemark.row")", R"("tidemark.plan")", "r.json: is a tidemark.plan file where"},
  };
  for (const Case& each : cases) {
    CHECK_THROWS_WITH(parse_row_detail("r.json", replaced(text, each.from, each.to)),
                      StartsWith(each.message));
  }
}

TEST_CASE("structural damage to a row is read or refused in one sentence",
          "[row_detail_json][mutation]") {
  const std::string text = format_row_detail(sample_detail());
  int refused = 0;
  int accepted = 0;
  for (std::uint32_t n = 0; n < 3000; ++n) {
    CAPTURE(n);
    const bool is_read = succeeds_or_says_why("r.json", [&] {
      const RowDetail detail = parse_row_detail("r.json", test::structurally_damaged(text, n));
      CHECK(parse_row_detail("r.json", format_row_detail(detail)) == detail);
    });
    (is_read ? accepted : refused) += 1;
  }
  CHECK(refused > 1000);
  CHECK(accepted > 100);
}

TEST_CASE("base64 agrees with the vectors of RFC 4648", "[base64]") {
  const std::vector<std::pair<std::string, std::string>> vectors{{"", ""},
                                                                 {"f", "Zg=="},
                                                                 {"fo", "Zm8="},
                                                                 {"foo", "Zm9v"},
                                                                 {"foob", "Zm9vYg=="},
                                                                 {"fooba", "Zm9vYmE="},
                                                                 {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    const std::vector<std::uint8_t> bytes(plain.begin(), plain.end());
    CHECK(to_base64(bytes) == encoded);
    CHECK(from_base64(encoded) == bytes);
  }
  std::vector<std::uint8_t> all;
  for (int value = 0; value < 256; ++value) all.push_back(static_cast<std::uint8_t>(value));
  CHECK(from_base64(to_base64(all)) == all);
}

TEST_CASE("what is no base64 gives nothing", "[base64]") {
  for (const char* text : {"Z", "Zg", "Zg=", "Zg===", "=g==", "Z===", "Zg=a", "Zg==Zg==", "Zm9\n",
                           "Zm9-", "Zm9\xc3"}) {
    CAPTURE(text);
    CHECK_FALSE(from_base64(text));
  }
}

}  // namespace
}  // namespace tidemark
