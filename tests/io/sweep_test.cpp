#include <catch2/catch.hpp>
#include <string>
#include <variant>

#include "block_chain.hpp"
#include "mutations.hpp"
#include "one_sentence.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::mutated;
using test::succeeds_or_says_why;

RowDetail sample_row() {
  const StepTrace trace = BlockChain(3).trace();
  RowDetail detail;
  detail.fingerprint = fingerprint(trace);
  detail.row.setting.number_checkpoints = 3;
  detail.row.setting.partition_activations = true;
  detail.row.setting.model_parallel_size = 2;
  detail.row.setting.cpu_checkpointing = CpuCheckpointing::blocking;
  detail.row.setting.segments = {{"blocks.0"}, {"blocks.1"}, {"blocks.2"}};
  auto built =
      std::get<BuiltSchedule>(build_schedule(trace, find_blocks(trace), detail.row.setting));
  const Prediction prediction = simulate(trace, built.schedule);
  detail.schedule = built.schedule;
  detail.row.predicted = prediction.figures;
  detail.row.measured = MeasuredFigures{.figures = prediction.figures, .step_seconds_noise = 0.1};
  detail.row.gradients = GradientVerdict::equal;
  detail.row.fits = true;
  detail.row.notes = built.notes;
  detail.predicted = prediction.timeline;
  return detail;
}

Sweep sweep_of_two_rows() {
  Sweep sweep;
  sweep.fingerprint = "0123";
  sweep.budget_bytes = 1000;
  sweep.rows.push_back(sample_row().row);
  SweepRow refused;
  refused.setting.contiguous_memory_optimization = true;
  refused.status = Status::invalid;
  refused.notes = {"reason, with \"quotes\""};
  sweep.rows.push_back(refused);
  recommend(sweep);
  return sweep;
}

TEST_CASE("a row with its schedule is equal after writing and reading", "[sweep]") {
  const RowDetail detail = sample_row();
  CHECK(parse_row_detail("r.json", format_row_detail(detail)) == detail);
}

TEST_CASE("a sweep is equal after writing and reading", "[sweep]") {
  const Sweep sweep = sweep_of_two_rows();
  CHECK(parse_sweep("s.json", format_sweep(sweep)) == sweep);
}

TEST_CASE("fields that do not apply are null, never zero", "[sweep]") {
  const std::string text = format_sweep(sweep_of_two_rows());
  CHECK_THAT(text, Catch::Contains("\"allocated_peak_bytes\": null"));
  CHECK_THAT(text, Catch::Contains("\"measured\": null"));
}

TEST_CASE("broken sweeps and rows are refused in one sentence", "[sweep][mutation]") {
  const std::string sweep = format_sweep(sweep_of_two_rows());
  const std::string row = format_row_detail(sample_row());
  int refused = 0;
  for (unsigned n = 0; n < 1000; ++n) {
    const bool reads_sweep =
        succeeds_or_says_why("s.json", [&] { (void)parse_sweep("s.json", mutated(sweep, n)); });
    const bool reads_row =
        succeeds_or_says_why("r.json", [&] { (void)parse_row_detail("r.json", mutated(row, n)); });
    refused += (reads_sweep ? 0 : 1) + (reads_row ? 0 : 1);
  }
  CHECK(refused > 500);
}

}  // namespace
}  // namespace tidemark
