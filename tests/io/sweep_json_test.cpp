#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "one_sentence.hpp"
#include "replaced.hpp"
#include "sample_sweep.hpp"
#include "structural_damage.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::replaced;

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;
using test::sample_sweep;
using test::succeeds_or_says_why;

Sweep sweep_with(const SweepRow& row) {
  Sweep sweep;
  sweep.rows = {row};
  return sweep;
}

TEST_CASE("a sweep with every case is equal after writing and reading", "[sweep_json]") {
  Sweep sweep = sample_sweep();
  CHECK(parse_sweep("s.json", format_sweep(sweep)) == sweep);
  sweep.is_default_budget = true;
  CHECK(parse_sweep("s.json", format_sweep(sweep)) == sweep);
  const Sweep without_times = test::sample_sweep_without_times();
  CHECK(parse_sweep("s.json", format_sweep(without_times)) == without_times);
}

TEST_CASE("every value of every enumeration of a sweep survives", "[sweep_json]") {
  for (std::size_t term = 0; term < term_count; ++term) {
    SweepRow row = test::sample_row(4, test::sample_figures(1, static_cast<Term>(term), 0.1, 0.2));
    row.predicted->peak_op.reset();
    CHECK(parse_sweep("s.json", format_sweep(sweep_with(row))) == sweep_with(row));
  }
  for (std::uint8_t value = 0; value < 4; ++value) {
    SweepRow row = test::sample_plain_row();
    row.status = static_cast<Status>(value);
    row.gradients = static_cast<GradientVerdict>(value);
    row.setting.cpu_checkpointing = static_cast<CpuCheckpointing>(value % 3);
    row.setting.method = static_cast<Method>(value % 2);
    Sweep sweep = sweep_with(row);
    sweep.limit = static_cast<PeakLimit>(value);
    sweep.device.kind = static_cast<DeviceKind>(value);
    CHECK(parse_sweep("s.json", format_sweep(sweep)) == sweep);
  }
}

TEST_CASE("every flag of a setting is its own field", "[sweep_json]") {
  const std::vector<bool Setting::*> flags{
      &Setting::uneven, &Setting::partition_activations, &Setting::contiguous_memory_optimization,
      &Setting::synchronize_checkpoint_boundary, &Setting::profile};
  for (const auto flag : flags) {
    SweepRow row = test::sample_plain_row();
    row.setting.*flag = true;
    CHECK(parse_sweep("s.json", format_sweep(sweep_with(row))).rows[0].setting == row.setting);
  }
}

TEST_CASE("seconds come back bit for bit", "[sweep_json]") {
  for (const double seconds : {0.1, 1.0 / 3, 1e-9, 12345.678901234567, 5e-324}) {
    SweepRow row = test::sample_plain_row();
    row.predicted->step_seconds = seconds;
    row.measured->step_seconds_noise = seconds;
    CHECK(parse_sweep("s.json", format_sweep(sweep_with(row))) == sweep_with(row));
  }
}

TEST_CASE("a wrong field of a sweep is refused by its place", "[sweep_json]") {
  struct Case {
    const char* from;
    const char* to;
    const char* message;
  };
  const std::string text = format_sweep(sample_sweep());
  const std::vector<Case> cases{
      {R"("yours": false)", R"("yours": 0)", "s.json: rows[0].yours: is not true or false"},
      {R"("live_peak_bytes": 1073741824)", R"("live_peak_bytes": -1)",
       "s.json: rows[0].predicted.live_peak_bytes: is out of range"},
      {R"("live_peak_bytes": 1073741824)", R"("live_peak_bytes": null)",
       "s.json: rows[0].predicted.live_peak_bytes: is not a whole number"},
      {R"("activations": 805306368)", R"("activation": 805306368)",
       "s.json: rows[0].predicted.peak_breakdown: holds what is no term of a peak"},
      {R"("peak_term": "activations")", R"("peak_term": "tide")",
       R"(s.json: rows[0].predicted.peak_term: has the unknown value "tide")"},
      {R"("step_seconds": 0.1)", R"("step_seconds": -0.1)",
       "s.json: rows[0].predicted.step_seconds: is negative"},
      {R"("status": "ok")", R"("status": "fine")", "s.json: rows[0].status: has the unknown value"},
      {R"("deepspeed_version": "0.19.8")", R"("deepspeed_version": "new")",
       "s.json: rows[0].setting.deepspeed_version: is no version"},
      {R"("method": "reentrant")", R"("method": 1)",
       "s.json: rows[0].setting.method: is not a text"},
      {R"("row": 2)", R"("row": 6)", "s.json: recommended.fastest.row: is out of range"},
      {R"("status": "invalid")", R"("status": "ok")",
       "s.json: rows[4]: is ok but has no prediction"},
      {R"("budget_bytes": 536870912)", R"("budget_bytes": "512MiB")",
       "s.json: budget_bytes: is not a whole number"},
      {R"("format": "tidemark.sweep")", R"("format": "tidemark.step")",
       "s.json: is a tidemark.step file where a tidemark.sweep file is wanted"},
  };
  for (const Case& each : cases) {
    CHECK_THROWS_WITH(parse_sweep("s.json", replaced(text, each.from, each.to)),
                      StartsWith(each.message));
  }
}

TEST_CASE("structural damage to a sweep is read or refused in one sentence",
          "[sweep_json][mutation]") {
  const std::string text = format_sweep(sample_sweep());
  int refused = 0;
  int accepted = 0;
  for (std::uint32_t n = 0; n < 3000; ++n) {
    CAPTURE(n);
    const bool is_read = succeeds_or_says_why("s.json", [&] {
      Sweep sweep = parse_sweep("s.json", test::structurally_damaged(text, n));
      CHECK(parse_sweep("s.json", format_sweep(sweep)) == sweep);
      // What was accepted bears being recommended from.
      recommend(sweep);
    });
    (is_read ? accepted : refused) += 1;
  }
  CHECK(refused > 1000);
  CHECK(accepted > 100);
}

}  // namespace
}  // namespace tidemark
