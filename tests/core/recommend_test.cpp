#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/report.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

SweepRow row(std::optional<std::int32_t> checkpoints, Bytes peak, std::optional<double> seconds) {
  SweepRow row;
  row.setting.number_checkpoints = checkpoints;
  StepFigures figures;
  figures.live_peak_bytes = peak;
  figures.peak_term = Term::recomputed_segment;
  figures.peak_breakdown[static_cast<std::size_t>(Term::recomputed_segment)] = peak;
  figures.step_seconds = seconds;
  row.predicted = figures;
  return row;
}

SweepRow invalid_row() {
  SweepRow row;
  row.status = Status::invalid;
  row.notes = {"refused"};
  return row;
}

// Scaled between the fastest (1000 B, 10 s) and the smallest row (200 B, 20 s), the distance below
// the chord is 1 - x - y:
//
//   row  K     peak   time      x      y       1 - x - y
//   0    none  1000   10 s      0      1       0
//   1    1      950   19 s      0.9    0.9375  < 0
//   2    2      600   11 s      0.1    0.5     0.4
//   3    4      300   12 s      0.2    0.125   0.675
//   4    8      200   20 s      1      0       0
Sweep curve() {
  Sweep sweep;
  sweep.rows = {row({}, 1000, 10.0), row(1, 950, 19.0), row(2, 600, 11.0), row(4, 300, 12.0),
                row(8, 200, 20.0)};
  return sweep;
}

std::optional<std::size_t> row_of(const std::optional<Recommendation>& recommendation) {
  return recommendation ? std::optional(recommendation->row) : std::nullopt;
}

std::vector<std::optional<bool>> fits_of(const Sweep& sweep) {
  std::vector<std::optional<bool>> fits;
  for (const SweepRow& each : sweep.rows) fits.push_back(each.fits);
  return fits;
}

TEST_CASE("without a budget the knee is written", "[recommend]") {
  Sweep sweep = curve();
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 0);
  CHECK(row_of(sweep.recommended.smallest) == 4);
  CHECK(row_of(sweep.recommended.knee) == 3);
  CHECK(sweep.recommended.written == sweep.recommended.knee);
  CHECK(fits_of(sweep) == std::vector<std::optional<bool>>(5));
  CHECK(sweep.notes.empty());
}

TEST_CASE("with a budget the fastest that fits is written, to the byte", "[recommend]") {
  Sweep sweep = curve();
  sweep.budget_bytes = 600;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 2);
  CHECK(sweep.recommended.written == sweep.recommended.fastest);
  CHECK(fits_of(sweep) == std::vector<std::optional<bool>>{false, false, true, true, true});
  // From (600 B, 11 s) to (200 B, 20 s), K=4 lies 1 - 1/9 - 1/4 below the chord.
  CHECK(row_of(sweep.recommended.knee) == 3);

  sweep.budget_bytes = 599;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 3);
  CHECK(fits_of(sweep) == std::vector<std::optional<bool>>{false, false, false, true, true});
}

TEST_CASE("a budget that nobody asked for leaves the choice to the knee", "[recommend]") {
  Sweep sweep = curve();
  sweep.budget_bytes = 1000;
  sweep.is_default_budget = true;
  recommend(sweep);
  CHECK(sweep.recommended.written == sweep.recommended.knee);
  CHECK(fits_of(sweep) == std::vector<std::optional<bool>>(5, true));
  // The plain step needs 1000 bytes.
  sweep.budget_bytes = 999;
  recommend(sweep);
  CHECK(sweep.recommended.written == sweep.recommended.fastest);
}

TEST_CASE("a budget that everything fits leaves the plain step as it is", "[recommend]") {
  Sweep sweep = curve();
  sweep.budget_bytes = 1000;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.written) == 0);
}

TEST_CASE("where nothing fits, the note says how much is missing, once", "[recommend]") {
  Sweep sweep = curve();
  sweep.notes = {"another note"};
  sweep.budget_bytes = 199;
  recommend(sweep);
  recommend(sweep);
  CHECK_FALSE(sweep.recommended.fastest);
  CHECK_FALSE(sweep.recommended.knee);
  CHECK_FALSE(sweep.recommended.written);
  CHECK(row_of(sweep.recommended.smallest) == 4);
  CHECK(sweep.notes ==
        std::vector<std::string>{"another note",
                                 "No setting fits 199 B; the smallest needs 200 B, 1 B more."});
  sweep.budget_bytes = 200;
  recommend(sweep);
  CHECK(sweep.notes == std::vector<std::string>{"another note"});
  CHECK(row_of(sweep.recommended.written) == 4);
}

TEST_CASE("equal times go to the smaller peak and equal rows to the earlier one", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row(1, 500, 10.0), row(2, 400, 10.0), row(3, 400, 10.0),
                row(4, 300, 30.0), row(5, 300, 20.0), row(6, 300, 20.0)};
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 1);
  CHECK(row_of(sweep.recommended.smallest) == 4);
  CHECK_THAT(sweep.recommended.fastest->reason,
             StartsWith("Fastest, smallest of 3 with the same predicted time (400 B);"));
  // What does not fit is in no tie.
  sweep.budget_bytes = 400;
  recommend(sweep);
  CHECK_THAT(sweep.recommended.fastest->reason,
             StartsWith("Fastest that fits 400 B, smallest of 2 with the same predicted time"));
}

TEST_CASE("times that differ by rounding alone are equal", "[recommend]") {
  // The same operators added up in another order.
  const double one = (0.1 + 0.2) + 0.3;
  const double other = 0.1 + (0.2 + 0.3);
  REQUIRE(other < one);
  Sweep sweep;
  sweep.rows = {row({}, 1000, 0.5), row(2, 600, other), row(12, 200, one)};
  sweep.budget_bytes = 700;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 2);
  // A nanosecond is a difference.
  sweep.rows[1].predicted->step_seconds = one - 1e-9;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 1);
}

TEST_CASE("rows above the chord are no better trade than the fastest", "[recommend]") {
  Sweep sweep;
  // K=2 gives up 90 % of the time for 10 % of the bytes.
  sweep.rows = {row({}, 1000, 10.0), row(2, 920, 19.0), row(4, 200, 20.0)};
  recommend(sweep);
  CHECK(row_of(sweep.recommended.knee) == 0);
  CHECK_THAT(sweep.recommended.knee->reason, StartsWith("No setting saves memory at less"));
}

TEST_CASE("a row that is best in both is every recommendation", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row(2, 900, 11.0), row({}, 800, 10.0)};
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 1);
  CHECK(row_of(sweep.recommended.smallest) == 1);
  CHECK(row_of(sweep.recommended.knee) == 1);
  CHECK_THAT(sweep.recommended.knee->reason, StartsWith("Fastest and smallest at once (800 B);"));
}

TEST_CASE("without times rows are ordered by peak and the reason says so", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row({}, 1000, {}), row(2, 600, {}), row(4, 700, {})};
  sweep.budget_bytes = 800;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 1);
  CHECK(row_of(sweep.recommended.smallest) == 1);
  CHECK_THAT(sweep.recommended.fastest->reason,
             StartsWith("No times are known; the smallest that fits 800 B (600 B, 40 % below no "
                        "checkpointing);"));
}

TEST_CASE("one missing time makes no row the fastest", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row({}, 1000, 10.0), row(2, 600, 12.0), row(4, 700, {})};
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 1);
  CHECK_THAT(sweep.recommended.fastest->reason, StartsWith("No times are known"));
}

TEST_CASE("a plain step that runs out of memory counts as not fitting", "[recommend]") {
  Sweep sweep = curve();
  sweep.rows[0].status = Status::out_of_memory;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 2);
  CHECK(sweep.recommended.written == sweep.recommended.fastest);
  // Compared with the plain step's prediction: 600 of 1000 bytes, 11 for 10 seconds.
  CHECK_THAT(sweep.recommended.fastest->reason,
             StartsWith("Fastest (600 B, 40 % below no checkpointing) at 10 % more time;"));
  CHECK_FALSE(sweep.rows[0].fits);
  sweep.budget_bytes = 5000;
  recommend(sweep);
  CHECK(sweep.rows[0].fits == false);
}

TEST_CASE("what did not run is neither recommended nor said to fit", "[recommend]") {
  Sweep sweep = curve();
  sweep.rows.insert(sweep.rows.begin(), invalid_row());
  sweep.rows.push_back(row(16, 1, 1.0));
  sweep.rows.back().status = Status::failed;
  sweep.budget_bytes = 600;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 3);
  CHECK(row_of(sweep.recommended.smallest) == 5);
  CHECK_FALSE(sweep.rows.front().fits);
  CHECK_FALSE(sweep.rows.back().fits);

  Sweep nothing;
  nothing.rows = {invalid_row()};
  nothing.budget_bytes = 1;
  recommend(nothing);
  CHECK(nothing.recommended == Recommended{});
}

TEST_CASE("measured peaks decide what fits and predicted times what is fast", "[recommend]") {
  Sweep sweep = curve();
  sweep.rows[2].measured =
      MeasuredFigures{.figures = *sweep.rows[2].predicted, .step_seconds_noise = {}};
  sweep.rows[2].measured->figures.live_peak_bytes = 601;
  sweep.rows[3].measured =
      MeasuredFigures{.figures = *sweep.rows[3].predicted, .step_seconds_noise = {}};
  sweep.rows[3].measured->figures.step_seconds = 99.0;
  sweep.budget_bytes = 600;
  recommend(sweep);
  CHECK(row_of(sweep.recommended.fastest) == 3);
}

TEST_CASE("a budget is held against reserved bytes where there is an allocator", "[recommend]") {
  StepFigures figures;
  figures.live_peak_bytes = 100;
  CHECK(limiting_peak(figures, PeakLimit::automatic) == 100);
  CHECK(limiting_peak(figures, PeakLimit::allocated) == 100);
  figures.allocated_peak_bytes = 200;
  figures.reserved_peak_bytes = 300;
  CHECK(limiting_peak(figures, PeakLimit::automatic) == 300);
  CHECK(limiting_peak(figures, PeakLimit::live) == 100);
  CHECK(limiting_peak(figures, PeakLimit::allocated) == 200);
  CHECK(limiting_peak(figures, PeakLimit::reserved) == 300);
  CHECK_THROWS_AS(best_figures(invalid_row()), InternalError);
}

TEST_CASE("a reason compares with the plain step and names what sets the peak", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row({}, 1000 * mebibyte, 10.0), row(4, 590 * mebibyte, 11.2)};
  StepFigures& figures = *sweep.rows[1].predicted;
  figures.peak_breakdown = {};
  figures.peak_breakdown[static_cast<std::size_t>(Term::static_memory)] = 290 * mebibyte;
  figures.peak_breakdown[static_cast<std::size_t>(Term::recomputed_segment)] = 300 * mebibyte;
  sweep.rows[1].peak_operator = "aten::addmm in blocks.7.fc (backward)";
  recommend(sweep);
  // No checkpoint is held at the peak, so nothing could be moved away.
  CHECK(sweep.recommended.smallest->reason ==
        "Smallest peak (590 MiB, 41 % below no checkpointing) at 12 % more time; the recomputed "
        "segment (300 MiB) sets the peak during aten::addmm in blocks.7.fc (backward); offload "
        "cannot lower it.");
}

TEST_CASE("what offload would change is told from the sweep where it was tried", "[recommend]") {
  Sweep sweep;
  sweep.rows = {row({}, 1000, 10.0), row(4, 600, 11.0)};
  StepFigures& figures = *sweep.rows[1].predicted;
  figures.peak_breakdown[static_cast<std::size_t>(Term::held_checkpoints)] = 50;
  recommend(sweep);
  CHECK_THAT(sweep.recommended.smallest->reason,
             EndsWith("sets the peak; offload could lower it by 50 B at most."));

  SweepRow offloaded = row(4, 600, 12.0);
  offloaded.setting.cpu_checkpointing = CpuCheckpointing::blocking;
  sweep.rows.push_back(offloaded);
  recommend(sweep);
  REQUIRE(row_of(sweep.recommended.smallest) == 1);
  CHECK_THAT(sweep.recommended.smallest->reason,
             EndsWith("sets the peak; offload does not lower it."));

  // Blocks are named in a row that was built, and not in one that was only predicted.
  sweep.rows[1].setting.segments = {{"blocks.0"}};
  // A measured peak is no reason to call a predicted one lower.
  sweep.rows[1].measured =
      MeasuredFigures{.figures = *sweep.rows[1].predicted, .step_seconds_noise = {}};
  sweep.rows[1].measured->figures.live_peak_bytes = 608;
  sweep.budget_bytes = 608;
  recommend(sweep);
  REQUIRE(row_of(sweep.recommended.fastest) == 1);
  CHECK_THAT(sweep.recommended.fastest->reason,
             EndsWith("sets the peak; offload does not lower it."));
  sweep.rows[1].measured.reset();

  sweep.rows[2].predicted->live_peak_bytes = 560;
  sweep.budget_bytes = 600;
  recommend(sweep);
  REQUIRE(row_of(sweep.recommended.fastest) == 1);
  CHECK_THAT(sweep.recommended.fastest->reason, EndsWith("sets the peak."));
  CHECK_THAT(sweep.recommended.smallest->reason, !Contains("offload"));
}

TEST_CASE("a setting is described as it is written on the command line", "[recommend]") {
  Setting setting;
  CHECK(describe(setting) == "none");
  setting.method = Method::non_reentrant;
  CHECK(describe(setting) == "none");
  setting.number_checkpoints = 4;
  CHECK(describe(setting) == "4, non_reentrant");
  setting.method = Method::reentrant;
  CHECK(describe(setting) == "4");
  setting.partition_activations = true;
  setting.model_parallel_size = 2;
  setting.cpu_checkpointing = CpuCheckpointing::async;
  CHECK(describe(setting) == "4, partition M=2, cpu async");
  setting.uneven = true;
  setting.contiguous_memory_optimization = true;
  setting.synchronize_checkpoint_boundary = true;
  setting.profile = true;
  CHECK(describe(setting) ==
        "uneven:4, partition M=2, cpu async, contiguous, synchronize, profile");
  setting.number_checkpoints.reset();
  CHECK_THAT(describe(setting), StartsWith("none, partition M=2, cpu async, contiguous"));
}

TEST_CASE("bytes have three figures, and none behind the point when exact", "[recommend]") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(640) == "640 B");
  CHECK(format_bytes(-640) == "-640 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1 KiB");
  CHECK(format_bytes(1536) == "1.50 KiB");
  CHECK(format_bytes(812 * mebibyte) == "812 MiB");
  CHECK(format_bytes(812 * mebibyte + 1) == "812 MiB");
  CHECK(format_bytes(6 * 1024 * mebibyte) == "6 GiB");
  CHECK(format_bytes(6 * 1024 * mebibyte + 1) == "6.00 GiB");
  // One byte below a unit is no 1024 of the smaller one.
  CHECK(format_bytes(mebibyte - 1) == "1.00 MiB");
  CHECK(format_bytes(-(mebibyte - 1)) == "-1.00 MiB");
  CHECK(format_bytes(Bytes{9} * 1024 * 1024 * mebibyte) == "9 TiB");
}

TEST_CASE("seconds have three figures in the unit that suits", "[recommend]") {
  CHECK(format_seconds(0) == "0 s");
  CHECK(format_seconds(0.0123) == "12.3 ms");
  CHECK(format_seconds(0.00123) == "1.23 ms");
  CHECK(format_seconds(0.000250) == "250 us");
  CHECK(format_seconds(1.5) == "1.50 s");
  CHECK(format_seconds(83.4) == "83.4 s");
  CHECK(format_seconds(3600) == "3600 s");
  CHECK(format_seconds(0.99996) == "1.00 s");
  CHECK(format_seconds(-0.5) == "-500 ms");
}

}  // namespace
}  // namespace tidemark
