// Sweeps of a GPU's step that predict what its allocator takes, and another machine's times.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "allocations.hpp"
#include "block_chain.hpp"
#include "command.hpp"
#include "run_command.hpp"
#include "temporary_folder.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;
using test::Outcome;
using test::run;
using test::TemporaryFolder;

// Storages of 1 to 10 MB.
StepTrace gpu_trace() {
  StepTrace trace = test::BlockChain(4).trace();
  for (Storage& storage : trace.storages) storage.bytes *= 100000;
  test::add_allocations(trace);
  return trace;
}

Arguments sweep_of(const std::string& trace, const std::string& folder, const Arguments& more) {
  Arguments line{"sweep", trace, "--no-execute", "--partition-activations",
                 "off",   "-o",  folder,         "--contiguous-memory-optimization",
                 "off"};
  line.insert(line.end(), more.begin(), more.end());
  return line;
}

TEST_CASE("a sweep compares allocator settings", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  write_step_trace(gpu_trace(), trace);
  const std::string out = folder / "out";
  const Outcome outcome = run(sweep_of(trace, out,
                                       {"--alloc-conf", "default", "--alloc-conf",
                                        "expandable_segments:True", "--alloc-conf", "default"}));
  INFO(outcome.err);
  REQUIRE(outcome.code == ExitCode::done);
  CHECK_THAT(outcome.out, Contains("4, expandable_segments:True"));
  CHECK_THAT(outcome.out, Contains("bytes that the allocator reserved"));
  const Sweep sweep = read_sweep(out + "/sweep.json");
  std::set<Bytes> reserved_of_plain;
  for (const SweepRow& row : sweep.rows) {
    REQUIRE(row.predicted->reserved_peak_bytes);
    CHECK(row.predicted->live_peak_bytes <= *row.predicted->allocated_peak_bytes);
    CHECK(*row.predicted->allocated_peak_bytes <= *row.predicted->reserved_peak_bytes);
    if (!row.setting.number_checkpoints) {
      reserved_of_plain.insert(*row.predicted->reserved_peak_bytes);
    }
  }
  CHECK(std::count_if(sweep.rows.begin(), sweep.rows.end(),
                      [](const SweepRow& row) { return !row.setting.number_checkpoints; }) == 2);
  CHECK(reserved_of_plain.size() == 2);
  const RowDetail detail = read_row_detail(out + "/rows/1.json.gz");
  CHECK(detail.row.setting.alloc_conf == "expandable_segments:True");
  CHECK(detail.predicted->reserved_bytes.size() == detail.schedule.steps.size());
}

TEST_CASE("a plan is made for the allocator that it runs on", "[cli][plan]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  write_step_trace(gpu_trace(), trace);
  const std::string conf = "expandable_segments:True";
  const std::string file = folder / "plan.json";
  const Outcome outcome =
      run({"plan", trace, "--budget", "1GiB", "--alloc-conf", conf, "-o", file});
  INFO(outcome.err);
  REQUIRE(outcome.code == ExitCode::done);
  CHECK_THAT(outcome.out, Contains("(reserved) under " + conf));
  const PlanFile plan = read_plan(file);
  CHECK(plan.alloc_conf == conf);
  const SimulateOptions expandable{.allocator = parse_allocator_settings(conf), .device = {}};
  CHECK(plan.predicted == simulate(gpu_trace(), plan.schedule, expandable).figures);
  CHECK(plan.predicted.reserved_peak_bytes !=
        simulate(gpu_trace(), plan.schedule).figures.reserved_peak_bytes);

  const std::string out = folder / "out";
  const Outcome swept = run(sweep_of(trace, out, {"--budget", "1GiB", "--alloc-conf", conf}));
  INFO(swept.err);
  CHECK_THAT(swept.out, Contains("plan by tide, " + conf));
  CHECK(read_sweep(out + "/sweep.json").rows.back().predicted == plan.predicted);
  CHECK(read_plan(out + "/plan.json").alloc_conf == conf);

  const std::string on_cpu = folder / "cpu.json";
  write_step_trace(test::BlockChain(4).trace(), on_cpu);
  const Outcome refused = run({"plan", on_cpu, "--budget", "1GiB", "--alloc-conf", conf});
  CHECK(refused.code == ExitCode::wrong_usage);
  CHECK_THAT(refused.err, Contains("where no caching allocator runs"));
}

TEST_CASE("a budget can be held against each of the peaks", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  write_step_trace(gpu_trace(), trace);
  const auto fitting = [&](const std::string& limit, Bytes budget) {
    const std::string out = folder / (limit + std::to_string(budget));
    (void)run(sweep_of(trace, out, {"--limit", limit, "--budget", std::to_string(budget)}));
    return *read_sweep(out + "/sweep.json").rows.front().fits;
  };
  const std::string out = folder / "out";
  (void)run(sweep_of(trace, out, {}));
  const StepFigures plain = *read_sweep(out + "/sweep.json").rows.front().predicted;
  const auto limits = {std::pair{"live", plain.live_peak_bytes},
                       std::pair{"allocated", *plain.allocated_peak_bytes},
                       std::pair{"reserved", *plain.reserved_peak_bytes}};
  for (const auto& [limit, peak] : limits) {
    CHECK(fitting(limit, peak));
    CHECK_FALSE(fitting(limit, peak - 1));
  }
}

TEST_CASE("a device that is too small is predicted to run out of memory", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  StepTrace small = gpu_trace();
  small.device.memory_bytes = 100'000'000;
  small.device.context_bytes = 30'000'000;
  write_step_trace(small, trace);
  const std::string out = folder / "out";
  (void)run(sweep_of(trace, out, {"--number-checkpoints", "none,4"}));
  const Sweep sweep = read_sweep(out + "/sweep.json");
  CHECK(sweep.rows.front().status == Status::out_of_memory);
  CHECK_THAT(sweep.rows.front().notes.front(), Contains("predicted to run out of memory"));
}

TEST_CASE("allocator settings need a GPU's step", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  StepTrace cpu = test::BlockChain(2).trace();
  cpu.device.kind = DeviceKind::cpu;
  write_step_trace(cpu, trace);
  const Outcome outcome =
      run(sweep_of(trace, folder / "out", {"--alloc-conf", "expandable_segments:True"}));
  CHECK(outcome.code == ExitCode::wrong_usage);
  CHECK_THAT(outcome.err, Contains("recorded on cpu, where no caching allocator runs"));
}

TEST_CASE("another machine's times are called modelled", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = folder / "step.json";
  StepTrace cpu = test::BlockChain(2).trace();
  cpu.device.kind = DeviceKind::cpu;
  write_step_trace(cpu, trace);
  const std::string out = folder / "out";
  const Outcome known = run(sweep_of(trace, out, {"--machine", "h200"}));
  INFO(known.err);
  REQUIRE(known.code == ExitCode::done);
  CHECK_THAT(known.out, Contains(" modelled") && Contains("the rates of h200"));
  const Sweep sweep = read_sweep(out + "/sweep.json");
  CHECK(sweep.time_model == "h200");
  // Nothing but launches: as many as there are operators.
  const double launch = rates_of(gpu_profile("h200")).launch_seconds;
  CHECK(*sweep.rows.front().predicted->step_seconds ==
        Approx(launch * static_cast<double>(cpu.ops.size())));

  const std::string machine = folder / "machine.json";
  MachineRates slow = rates_of(gpu_profile("l4"));
  slow.launch_seconds = 1;
  write_file(machine, format_machine(slow));
  const std::string other = folder / "other";
  REQUIRE(run(sweep_of(trace, other, {"--machine", machine})).code == ExitCode::done);
  CHECK(*read_sweep(other + "/sweep.json").rows.front().predicted->step_seconds ==
        Approx(static_cast<double>(cpu.ops.size())));

  const Outcome unknown = run(sweep_of(trace, other + "2", {"--machine", "tpu"}));
  CHECK(unknown.code == ExitCode::wrong_usage);
  CHECK_THAT(unknown.err, Contains("h200"));
}

}  // namespace
}  // namespace tidemark
