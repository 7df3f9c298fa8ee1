#include "sweep_run.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <iterator>

#include "block_chain.hpp"
#include "fake_device.hpp"
#include "plan_run.hpp"
#include "temporary_folder.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::FakeExecution;
using test::TemporaryFolder;

const std::atomic<bool> never_interrupted{false};

SweepRequest request_for(const StepTrace& trace, const SweepAxes& axes = {}) {
  SweepRequest request{.trace = trace,
                       .runs = find_blocks(trace),
                       .settings = {},
                       .yours = {},
                       .lists_every_invalid = false,
                       .build = {},
                       .execute = {},
                       .budget_bytes = {},
                       .limit = PeakLimit::automatic,
                       .provenance = {},
                       .notes = {},
                       .folder = {},
                       .resumes = false};
  request.settings = expand(axes, request.runs);
  return request;
}

Sweep run(const SweepRequest& request, Execution* execution) {
  return run_sweep(
      request, execution, [](const SweepProgress&) {}, never_interrupted);
}

TEST_CASE("every setting of the axes becomes a row, refused ones once for each reason", "[sweep]") {
  const BlockChain chain(4);
  const SweepRequest request = request_for(chain.trace());
  FakeExecution execution(chain.trace(), {});
  const Sweep sweep = run(request, &execution);
  // none; K = 1, 2, 4, each: no partition off/blocking/async, partition off/blocking with and
  // without contiguous buffers: 7. Contiguous without partition is refused: one row for nine.
  CHECK(sweep.rows.size() == 1 + 3 * 7 + 1);
  CHECK(execution.executions == 1 + 3 * 7);
  int refused = 0;
  for (const SweepRow& row : sweep.rows) {
    if (row.status != Status::invalid) {
      CHECK(row.gradients == GradientVerdict::equal);
      CHECK(row.measured->figures.live_peak_bytes == row.predicted->live_peak_bytes);
      continue;
    }
    ++refused;
    CHECK_THAT(row.notes.back(), Catch::Contains("9 settings"));
  }
  CHECK(refused == 1);
  CHECK(sweep.recommended.smallest.has_value());
}

TEST_CASE("an interrupted sweep goes on and ends as an uninterrupted one", "[sweep]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  SweepRequest request = request_for(chain.trace());
  request.folder = folder / "whole";
  FakeExecution whole(chain.trace(), {});
  (void)run(request, &whole);

  request.folder = folder / "parts";
  FakeExecution first(chain.trace(), {});
  std::atomic<bool> interrupted{false};
  const Sweep partial = run_sweep(
      request, &first, [&](const SweepProgress& p) { interrupted = p.done == 5; }, interrupted);
  // Settings 0 to 5: none, K=1 off and, refused, contiguous; blocking and, refused, contiguous;
  // async.
  CHECK(partial.rows.size() == 5);
  CHECK(first.executions == 4);
  CHECK(read_sweep(folder / "parts/sweep.json").rows == partial.rows);

  request.resumes = true;
  FakeExecution second(chain.trace(), {});
  (void)run(request, &second);
  CHECK(second.executions == whole.executions - first.executions);
  CHECK(read_file(folder / "parts/sweep.json") == read_file(folder / "whole/sweep.json"));
}

TEST_CASE("a row file that was damaged is run again", "[sweep]") {
  const BlockChain chain(3);
  const TemporaryFolder folder;
  SweepRequest request = request_for(chain.trace());
  request.folder = folder / "sweep";
  FakeExecution first(chain.trace(), {});
  (void)run(request, &first);
  write_file(folder / "sweep/rows/1.json.gz", "broken");
  request.resumes = true;
  FakeExecution second(chain.trace(), {});
  (void)run(request, &second);
  CHECK(second.executions == 1);
}

TEST_CASE("a folder that holds another sweep is not overwritten", "[sweep]") {
  const BlockChain chain(3);
  const BlockChain other(4);
  const TemporaryFolder folder;
  SweepRequest request = request_for(chain.trace());
  request.folder = folder / "sweep";
  (void)run(request, nullptr);
  CHECK_THROWS_WITH(run(request, nullptr), Catch::Contains("--resume"));
  SweepRequest foreign = request_for(other.trace());
  foreign.folder = request.folder;
  foreign.resumes = true;
  CHECK_THROWS_WITH(run(foreign, nullptr), Catch::Contains("another step"));
}

TEST_CASE("running out of memory is a row and the sweep goes on", "[sweep]") {
  const BlockChain chain(4);
  SweepRequest request = request_for(chain.trace());
  request.budget_bytes = 100'000;
  FakeExecution execution(chain.trace(), {.out_of_memory_at = 2});
  const Sweep sweep = run(request, &execution);
  CHECK(sweep.rows.size() == 23);
  // The third execution is K=1 with blocking offload; the row before it is the refused one.
  CHECK(sweep.rows[3].status == Status::out_of_memory);
  CHECK(sweep.rows[3].fits == false);
  CHECK_THAT(sweep.rows[3].notes.front(), Catch::Contains("10 MiB were free"));
}

TEST_CASE("a device that fails leaves a failed row and the others", "[sweep]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  SweepRequest request = request_for(chain.trace());
  request.folder = folder / "sweep";
  FakeExecution execution(chain.trace(), {.fails_at = 3});
  const Sweep sweep = run(request, &execution);
  CHECK(sweep.rows.size() == 23);
  CHECK(sweep.rows[4].status == Status::failed);
  CHECK(sweep.rows[5].status == Status::ok);
  CHECK(read_sweep(folder / "sweep/sweep.json").rows == sweep.rows);
}

TEST_CASE("a device that is lost ends the sweep, which keeps its rows and goes on later",
          "[sweep]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  SweepRequest request = request_for(chain.trace());
  request.folder = folder / "sweep";
  FakeExecution lost(chain.trace(), {.is_lost_at = 3});
  const Sweep partial = run(request, &lost);
  CHECK(lost.executions == 4);
  REQUIRE(partial.rows.size() == 5);
  CHECK(partial.rows[3].status == Status::ok);
  CHECK(partial.rows[4].status == Status::failed);
  CHECK(partial.rows[4].notes.front() == "the card fell off the bus");
  CHECK_THAT(partial.notes.back(), Catch::Contains("lost") && Catch::Contains("--resume"));
  CHECK(read_sweep(folder / "sweep/sweep.json").rows == partial.rows);

  request.resumes = true;
  FakeExecution repaired(chain.trace(), {});
  const Sweep whole = run(request, &repaired);
  CHECK(whole.rows.size() == 23);
  CHECK(whole.rows[4].status == Status::ok);
  CHECK(whole.notes.empty());
}

TEST_CASE("the axes and the configuration's own setting", "[sweep_settings]") {
  const BlockChain chain(4);
  const auto runs = find_blocks(chain.trace());
  SweepAxes axes;
  axes.number_checkpoints = {{std::nullopt, 2}};
  axes.partition_activations = {false};
  axes.cpu_checkpointing = {CpuCheckpointing::off};
  axes.contiguous_memory_optimization = {false};
  axes.methods = {Method::reentrant, Method::non_reentrant};
  const auto settings = expand(axes, runs);
  REQUIRE(settings.size() == 3);
  CHECK_FALSE(settings[0].number_checkpoints.has_value());
  CHECK(settings[1].segments.size() == 2);
  CHECK(settings[2].method == Method::non_reentrant);

  ActivationCheckpointing block;
  block.cpu_checkpointing = true;
  const OwnSetting own = own_setting(block, axes, runs);
  CHECK(own.setting.number_checkpoints == 4);
  CHECK(own.assumed.has_value());
  fix_axes(axes, {"cpu_checkpointing"}, block);
  CHECK(axes.cpu_checkpointing.size() == 2);
  CHECK_THROWS_AS(fix_axes(axes, {"number_checkpoint"}, block), UsageError);
}

TEST_CASE("with a budget the plan stands beside the settings, executed like them", "[sweep]") {
  const BlockChain chain(6);
  const TemporaryFolder folder;
  SweepAxes axes;
  axes.cpu_checkpointing = {CpuCheckpointing::off};
  axes.partition_activations = {false};
  axes.contiguous_memory_optimization = {false};
  SweepRequest request = request_for(chain.trace(), axes);
  request.budget_bytes = plain_figures(chain.trace()).live_peak_bytes * 3 / 4;
  request.planner = planners().back();
  request.folder = folder / "sweep";
  FakeExecution execution(chain.trace(), {});
  const Sweep sweep = run(request, &execution);
  REQUIRE(sweep.rows.size() == request.settings.size() + 1);
  CHECK(execution.executions == std::ssize(sweep.rows));
  const SweepRow& plan = sweep.rows.back();
  CHECK(describe(plan) == "plan by tide");
  CHECK(plan.fits == true);
  CHECK(plan.gradients == GradientVerdict::equal);
  CHECK(plan.measured->figures.live_peak_bytes == plan.predicted->live_peak_bytes);
  CHECK(plan.predicted->live_peak_bytes <= *request.budget_bytes);
  // It is no setting that a configuration could hold, but is compared with the fastest of them.
  REQUIRE(sweep.recommended.fastest);
  REQUIRE(sweep.recommended.plan);
  const SweepRow& fastest = sweep.rows[sweep.recommended.fastest->row];
  CHECK_FALSE(fastest.is_plan());
  CHECK(*plan.predicted->step_seconds < *fastest.predicted->step_seconds);
  CHECK(sweep.recommended.plan->row == sweep.rows.size() - 1);
  CHECK_THAT(
      sweep.recommended.plan->reason,
      Catch::Contains(" less time than the fastest setting that fits (" + describe(fastest) + ")"));
  CHECK(read_sweep(folder / "sweep/sweep.json") == sweep);
  const std::string file =
      folder / ("sweep/rows/" + std::to_string(sweep.rows.size() - 1) + ".json.gz");
  CHECK(validate(chain.trace(), read_row_detail(file).schedule).empty());
  CHECK(read_plan(folder / "sweep/plan.json").measured == plan.measured);

  // Resumed: the same plan is not executed again, one for another budget is.
  request.resumes = true;
  FakeExecution second(chain.trace(), {});
  CHECK(run(request, &second) == sweep);
  CHECK(second.executions == 0);
  *request.budget_bytes = *request.budget_bytes * 4 / 5;
  CHECK(run(request, &second).rows.back().fits == true);
  CHECK(second.executions == 1);
  *request.budget_bytes = 100;
  const Sweep none = run(request, &second);
  CHECK(none.rows.size() == request.settings.size());
  CHECK_FALSE(none.recommended.plan.has_value());
  REQUIRE_FALSE(none.notes.empty());
  CHECK_THAT(none.notes.front(), Catch::Contains("no plan by tide fits 100 B"));
  CHECK_FALSE(std::filesystem::exists(folder / "sweep/plan.json"));
}

TEST_CASE("with host memory the plan offloads", "[sweep]") {
  StepTrace trace = BlockChain(6).trace();
  trace.device.copy_bytes_per_second = 1e12;
  SweepRequest request = request_for(trace);
  request.settings.clear();
  request.budget_bytes = plain_figures(trace).live_peak_bytes * 3 / 4;
  request.planner = planners().back();
  const StepFigures without = *run(request, nullptr).rows.back().predicted;
  CHECK(without.transfer_bytes == 0);
  request.host_budget_bytes = mebibyte;
  const StepFigures with = *run(request, nullptr).rows.back().predicted;
  CHECK(with.transfer_bytes > 0);
  CHECK(*with.step_seconds < *without.step_seconds);
}

TEST_CASE("a plan keeps the outputs for a caller who holds them", "[sweep]") {
  StepTrace trace = BlockChain(6).trace();
  const auto output = std::find_if(trace.storages.begin(), trace.storages.end(), [](const auto& s) {
    return s.role == Role::activation && s.freed_after;
  });
  REQUIRE(output != trace.storages.end());
  trace.outputs = {static_cast<StorageId>(output - trace.storages.begin())};
  StepTrace kept = trace;
  kept.keep.push_back(trace.outputs.front());
  const TemporaryFolder folder;
  SweepRequest request = request_for(trace);
  request.settings.clear();
  request.budget_bytes = plain_figures(kept).live_peak_bytes;
  request.planner = planners().back();
  for (const bool holds : {false, true}) {
    request.build.hold_outputs = holds;
    request.folder = folder / (holds ? "held" : "dropped");
    REQUIRE(run(request, nullptr).rows.size() == 1);
    const Schedule schedule = read_row_detail(*request.folder + "/rows/0.json.gz").schedule;
    CHECK(validate(trace, schedule).empty());
    CHECK(validate(kept, schedule).empty() == holds);
    CHECK(read_plan(*request.folder + "/plan.json").fingerprint == fingerprint(trace));
  }
}

}  // namespace
}  // namespace tidemark
