#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "block_chain.hpp"
#include "fake_device.hpp"
#include "plan_run.hpp"
#include "run_command.hpp"
#include "temporary_folder.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::Outcome;
using test::run;
using test::TemporaryFolder;

class SavedChain {
 public:
  SavedChain() { write_step_trace(chain_.trace(), step()); }
  [[nodiscard]] std::string step() const { return folder_ / "step.json.gz"; }
  [[nodiscard]] const StepTrace& trace() const { return chain_.trace(); }
  [[nodiscard]] std::string in_folder(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] Bytes plain_peak() const { return plain_figures(chain_.trace()).live_peak_bytes; }

 private:
  TemporaryFolder folder_;
  BlockChain chain_{6};
};

TEST_CASE("plan says the same to people, as JSON and in the file", "[cli][plan]") {
  const SavedChain chain;
  const std::string budget = std::to_string(chain.plain_peak() * 3 / 4);
  const std::string file = chain.in_folder("plan.json");
  const Outcome text = run({"plan", chain.step(), "--budget", budget, "-o", file});
  CHECK(text.code == ExitCode::done);
  for (const char* line : {"plan       by tide within", "peak       ", "packed     ", "time       ",
                           "bound      ", "recomputed"}) {
    CHECK_THAT(text.out, Catch::Contains(line));
  }
  const Outcome json = run({"plan", chain.step(), "--budget", budget, "--json"});
  CHECK(json.out == read_file(file));
  const PlanFile plan = read_plan(file);
  CHECK(plan.fingerprint == fingerprint(chain.trace()));
  CHECK(plan.predicted == simulate(chain.trace(), plan.schedule).figures);
  CHECK(plan.predicted.live_peak_bytes <= *plan.budget_bytes);
  CHECK_FALSE(plan.decisions.empty());
  // Nothing can be packed closer than what is alive at once.
  REQUIRE(plan.packed_bytes);
  CHECK(*plan.packed_bytes >= plan.predicted.live_peak_bytes);
}

TEST_CASE("plan of whole blocks is some grouping's schedule", "[cli][plan]") {
  const SavedChain chain;
  const std::string budget = std::to_string(chain.plain_peak() * 3 / 4);
  const Outcome outcome =
      run({"plan", chain.step(), "--budget", budget, "--granularity", "block", "--json"});
  REQUIRE(outcome.code == ExitCode::done);
  const PlanFile plan = parse_plan("plan.json", outcome.out);
  const std::vector<BlockRun> runs = find_blocks(chain.trace());
  bool is_grouping = false;
  for (const std::int32_t count : distinct_checkpoint_counts(runs)) {
    Setting setting;
    setting.number_checkpoints = count;
    setting.method = Method::non_reentrant;
    const auto built = build_schedule(chain.trace(), runs, setting);
    is_grouping = is_grouping || std::get<BuiltSchedule>(built).schedule == plan.schedule;
  }
  CHECK(is_grouping);

  const Outcome refused =
      run({"plan", chain.step(), "--budget", budget, "--granularity", "block", "--planner", "dtr"});
  CHECK(refused.code == ExitCode::wrong_usage);
  CHECK_THAT(refused.err, Catch::Contains("dtr") && Catch::Contains("--granularity op"));
}

TEST_CASE("a budget that nothing fits ends with what would", "[cli][plan]") {
  const SavedChain chain;
  const Outcome outcome = run({"plan", chain.step(), "--budget", "100"});
  CHECK(outcome.code == ExitCode::nothing_fits);
  CHECK(outcome.out.empty());
  CHECK_THAT(outcome.err, Catch::Contains("the smallest it reached needs") &&
                              Catch::Contains("so none can fit"));
}

TEST_CASE("without a budget plan gives the front, smaller and slower from line to line",
          "[cli][plan]") {
  const SavedChain chain;
  const Outcome outcome = run({"plan", chain.step(), "--json"});
  CHECK(outcome.code == ExitCode::done);
  const auto front = nlohmann::json::parse(outcome.out);
  REQUIRE(front.size() > 3);
  for (std::size_t p = 1; p < front.size(); ++p) {
    const auto& before = front[p - 1];
    CHECK(front[p]["budget_bytes"] < before["budget_bytes"]);
    CHECK(front[p]["predicted"]["live_peak_bytes"] <= front[p]["budget_bytes"]);
    CHECK(front[p]["predicted"]["step_seconds"] >= before["predicted"]["step_seconds"]);
  }
  const Outcome kept = run({"plan", chain.step(), "--pareto", "-o", chain.in_folder("front")});
  CHECK(kept.code == ExitCode::done);
  // A title, one line a plan, and a note that is every plan's: the trace carries no calls.
  CHECK(std::count(kept.out.begin(), kept.out.end(), '\n') ==
        static_cast<std::ptrdiff_t>(front.size()) + 2);
  CHECK_THAT(kept.out,
             Catch::EndsWith("note: the trace carries no calls: predicted, not executed\n"));
  CHECK(std::filesystem::exists(chain.in_folder("front/plan-0.json")));
}

TEST_CASE("wrong usage of plan and run is one sentence and exit code 2", "[cli][plan][negative]") {
  const SavedChain chain;
  const std::string step = chain.step();
  for (const Arguments& arguments :
       {Arguments{"plan", step, "--budget", "6G"},
        Arguments{"plan", step, "--budget", "1GiB", "--planner", "tides"},
        Arguments{"plan", step, "--budget", "1GiB", "--granularity", "layer"},
        Arguments{"plan", step, "--budget", "1GiB", "--limit", "reserved"},
        Arguments{"plan", step, "--budget", "1GiB", "--effort", "0"},
        Arguments{"plan", step, "--budget", "1GiB", "--time-limit", "0"},
        Arguments{"plan", step, "--budget", "1GiB", "--pareto"},
        Arguments{"plan", step, "--execute"}, Arguments{"run", step}}) {
    const Outcome outcome = run(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == ExitCode::wrong_usage);
    CHECK_THAT(outcome.err, Catch::StartsWith("tidemark: "));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  }
}

TEST_CASE("run refuses a plan for another step, a spoilt one, and a step without calls",
          "[cli][plan][negative]") {
  const SavedChain chain;
  const std::string file = chain.in_folder("plan.json");
  REQUIRE(run({"plan", chain.step(), "--budget", "1GiB", "-o", file}).code == ExitCode::done);

  const std::string other = chain.in_folder("other.json.gz");
  write_step_trace(BlockChain(5).trace(), other);
  const Outcome foreign = run({"run", other, "--plan", file});
  CHECK(foreign.code == ExitCode::failed);
  CHECK_THAT(foreign.err, Catch::Contains("is for another step"));

  PlanFile spoilt = read_plan(file);
  spoilt.schedule.steps.erase(spoilt.schedule.steps.begin());
  write_file(chain.in_folder("spoilt.json"), format_plan(spoilt));
  const Outcome broken = run({"run", chain.step(), "--plan", chain.in_folder("spoilt.json")});
  CHECK(broken.code == ExitCode::failed);
  CHECK_THAT(broken.err, Catch::Contains("schedule.steps["));

  const Outcome no_calls = run({"run", chain.step(), "--plan", file});
  CHECK(no_calls.code == ExitCode::wrong_usage);
  CHECK_THAT(no_calls.err, Catch::Contains("no calls"));
}

TEST_CASE("an executed plan is judged by its bytes, gradients and memory", "[cli][plan]") {
  const BlockChain chain(6);
  PlanRequest request;
  request.runs = find_blocks(chain.trace());
  request.budget_bytes = 900;
  const PlanOutcome outcome = run_planner(*planners().back(), chain.trace(), request);
  const PlanFile made = to_plan_file(chain.trace(), request, "", std::get<Plan>(outcome));
  const auto executed = [&](const test::Script& script, PlanFile& plan) {
    test::FakeExecution execution(chain.trace(), script);
    std::ostringstream out;
    std::ostringstream err;
    const ExitCode code =
        execute_plan(chain.trace(), execution, {}, plan, {.out = out, .err = err});
    return Outcome{code, out.str(), err.str()};
  };
  PlanFile plan = made;
  CHECK(executed({}, plan).code == ExitCode::done);
  REQUIRE(plan.measured);
  CHECK(plan.measured->figures.live_peak_bytes == plan.predicted.live_peak_bytes);
  CHECK(plan.gradients == GradientVerdict::equal);

  const Outcome differs = executed({.differs_by = 8}, plan);
  CHECK(differs.code == ExitCode::differs);
  CHECK_THAT(differs.err, Catch::Contains("peak differs from the predicted one by 8 B"));

  const Outcome exhausted = executed({.out_of_memory_at = 0}, plan);
  CHECK(exhausted.code == ExitCode::failed);
  CHECK_THAT(exhausted.err, Catch::Contains("1 GiB was asked for"));
}

}  // namespace
}  // namespace tidemark
