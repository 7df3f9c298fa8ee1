#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "exhaustive.hpp"
#include "model_steps.hpp"
#include "planner_named.hpp"
#include "random_trace.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

using test::planner_named;

using test::BlockChain;

PlanRequest request_for(const StepTrace& trace) {
  PlanRequest request;
  request.runs = find_blocks(trace);
  return request;
}

// The schedule that build_schedule() makes of so many segments.
Schedule grouped(const StepTrace& trace, std::int32_t segments) {
  Setting setting;
  setting.number_checkpoints = segments;
  setting.method = Method::non_reentrant;
  return std::get<BuiltSchedule>(build_schedule(trace, find_blocks(trace), setting)).schedule;
}

TEST_CASE("recompute-all makes every block a checkpoint", "[planner][baselines]") {
  const BlockChain chain(6);
  const auto schedules =
      planner_named("recompute-all").plan(chain.trace(), request_for(chain.trace())).schedules;
  REQUIRE(schedules.size() == 1);
  CHECK(schedules.front() == grouped(chain.trace(), 6));
}

TEST_CASE("square-root rounds the root of the number of blocks", "[planner][baselines]") {
  for (const auto& [blocks, segments] : std::map<int, int>{{2, 1}, {6, 2}, {7, 3}, {9, 3}}) {
    const BlockChain chain(blocks);
    const auto schedules =
        planner_named("square-root").plan(chain.trace(), request_for(chain.trace())).schedules;
    REQUIRE(schedules.size() == 1);
    CHECK(schedules.front() == grouped(chain.trace(), segments));
  }
}

// How often each operator runs again.
std::map<OpId, int> repeated(const Schedule& schedule) {
  std::map<OpId, int> times;
  for (const Step& step : schedule.steps) {
    const auto* run = std::get_if<Run>(&step.action);
    if (run != nullptr && step.cause == Cause::recompute) ++times[run->op];
  }
  return times;
}

std::vector<Schedule> schedules_of(const std::string& name, const StepTrace& trace) {
  std::vector<Schedule> schedules = planner_named(name).plan(trace, request_for(trace)).schedules;
  for (const Schedule& schedule : schedules) REQUIRE(validate(trace, schedule).empty());
  return schedules;
}

TEST_CASE("chen-greedy keeps segments' inputs and makes the rest again once",
          "[planner][baselines]") {
  const BlockChain chain(8);
  // Eight stages of 140 bytes: b = 395 closes a segment after three of them, b = 198 after two.
  const std::vector<Schedule> schedules = schedules_of("chen-greedy", chain.trace());
  const auto holds = [&](int blocks_in_a_segment) {
    std::map<OpId, int> expected;
    for (int i = 0; i < 8; ++i) {
      expected[chain.up(i)] = 1;
      const bool is_kept = i % blocks_in_a_segment == blocks_in_a_segment - 1;
      if (!is_kept) expected[chain.down(i)] = 1;
    }
    return std::any_of(schedules.begin(), schedules.end(),
                       [&](const Schedule& schedule) { return repeated(schedule) == expected; });
  };
  CHECK(holds(2));
  CHECK(holds(3));
}

TEST_CASE("torchtitan recomputes every nth layer, or all but heavy operators",
          "[planner][baselines]") {
  BlockChain chain(4);
  using Times = std::map<OpId, int>;
  // down's result is the next layer's input: it leaves the layer, and stays.
  std::vector<Schedule> schedules = schedules_of("torchtitan", chain.trace());
  REQUIRE(schedules.size() == 5);
  CHECK(repeated(schedules[0]) ==
        Times{{chain.up(0), 1}, {chain.up(1), 1}, {chain.up(2), 1}, {chain.up(3), 1}});
  CHECK(repeated(schedules[1]) == Times{{chain.up(1), 1}, {chain.up(3), 1}});
  CHECK(repeated(schedules[2]) == Times{{chain.up(2), 1}});
  CHECK(repeated(schedules[3]) == Times{{chain.up(3), 1}});
  // By operator: nothing in these layers is a matrix product, so all of it is made again.
  CHECK(repeated(schedules[4]) == repeated(schedules[0]));
  for (int i = 0; i < 4; ++i) chain.trace().ops[index(chain.up(i))].name = "aten::mm";
  schedules = schedules_of("torchtitan", chain.trace());
  CHECK(repeated(schedules[4]).empty());
}

TEST_CASE("pytorch-budget keeps inputs only at 0, and what backward reads at 1",
          "[planner][baselines]") {
  const BlockChain chain(3);
  const std::vector<Schedule> schedules = schedules_of("pytorch-budget", chain.trace());
  REQUIRE(schedules.size() >= 2);
  CHECK(repeated(schedules.front()).empty());
  const std::map<OpId, int> all{{OpId{0}, 1},      {chain.up(0), 1},   {chain.down(0), 1},
                                {chain.up(1), 1},  {chain.down(1), 1}, {chain.up(2), 1},
                                {chain.down(2), 1}};
  CHECK(repeated(schedules.back()) == all);
}

TEST_CASE("msps drops first what frees most for its time", "[planner][baselines]") {
  const BlockChain chain(4);
  // h holds 100 bytes for up's 10 ns, x 40 bytes for down's: the first ones to go are h.
  const std::vector<Schedule> schedules = schedules_of("msps", chain.trace());
  REQUIRE(schedules.size() >= 3);
  CHECK(repeated(schedules.front()).empty());
  const std::map<OpId, int> first = repeated(schedules[1]);
  REQUIRE(first.size() == 1);
  CHECK(chain.trace().ops[index(first.begin()->first)].name == "up");
}

TEST_CASE("dtr evicts the stalest value for its bytes and time", "[planner][baselines]") {
  const BlockChain chain(4);
  const std::vector<Schedule> schedules = schedules_of("dtr", chain.trace());
  REQUIRE(schedules.size() >= 3);
  // From the smallest budget up; with everything there is nothing to evict.
  CHECK(repeated(schedules.back()).empty());
  const auto just_below =
      std::find_if(schedules.rbegin(), schedules.rend(),
                   [](const Schedule& schedule) { return !repeated(schedule).empty(); });
  REQUIRE(just_below != schedules.rend());
  // h of the first block: as large as the others, and used longest ago.
  CHECK(repeated(*just_below).begin()->first == chain.up(0));
}

TEST_CASE("rotor finds the best persistent schedule of a chain", "[planner][baselines]") {
  const BlockChain chain(6);
  PlanRequest request = request_for(chain.trace());
  const StepFigures plain = simulate(chain.trace(), grouped(chain.trace(), 6)).figures;
  request.budget_bytes = plain.static_bytes + 40 * 7 + 100 + 40 + 100 + 60;
  const PlanOutcome outcome = run_planner(planner_named("rotor"), chain.trace(), request);
  const auto& plan = std::get<Plan>(outcome);
  // No grouping of blocks beats it.
  for (std::int32_t segments = 1; segments <= 6; ++segments) {
    const StepFigures figures = simulate(chain.trace(), grouped(chain.trace(), segments)).figures;
    if (figures.live_peak_bytes > *request.budget_bytes) continue;
    CHECK(*plan.prediction.figures.step_seconds <= *figures.step_seconds + 1e-12);
  }
}

struct NamedStep {
  std::string name;
  StepTrace trace;
};

std::vector<NamedStep> model_steps() {
  std::vector<NamedStep> steps;
  steps.push_back({"transformer", test::transformer_step(2)});
  steps.push_back({"residual blocks", test::resnet_step({1, 1})});
  steps.push_back({"long skips", test::unet_step(1)});
  steps.push_back({"dense blocks", test::densenet_step({2, 2})});
  steps.push_back({"layers by chance", test::layered_step(24, 11)});
  steps.push_back({"chain", test::chain_step(16, 5)});
  return steps;
}

// Each schedule keeps the rules, and no plan claims to fit that does not, or beats the bound.
int check_all_planners(const StepTrace& trace, std::map<std::string, int>& repeating) {
  PlanRequest request = request_for(trace);
  int planned = 0;
  const Bytes floor = lower_bound_on_peak(trace).bytes;
  const StepFigures plain =
      simulate(trace, planner_named("keep-all").plan(trace, request).schedules.front()).figures;
  for (const Planner* planner : planners()) {
    CAPTURE(planner->name());
    for (const int part : {0, 1, 3}) {
      request.budget_bytes = floor + (plain.live_peak_bytes - floor) * part / 4;
      const PlanOutcome outcome = run_planner(*planner, trace, request);
      const auto* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) continue;
      ++planned;
      CHECK(plan->prediction.figures.live_peak_bytes <= *request.budget_bytes);
      if (plan->lower_bound_seconds) {
        CHECK(*plan->lower_bound_seconds <= *plan->prediction.figures.step_seconds * (1 + 1e-9));
      }
      if (!repeated(plan->schedule).empty()) ++repeating[std::string(planner->name())];
    }
  }
  return planned;
}

TEST_CASE("every planner keeps the rules, its budget and the bound on steps of models",
          "[planner][baselines][property]") {
  std::map<std::string, int> repeating;
  for (const NamedStep& step : model_steps()) {
    CAPTURE(step.name);
    CHECK(check_all_planners(step.trace, repeating) > 6);
  }
  // Each of them had something to say.
  for (const Planner* planner : planners()) {
    CAPTURE(planner->name());
    if (planner->name() != "keep-all") CHECK(repeating[std::string(planner->name())] > 0);
  }
}

TEST_CASE("every planner keeps the rules, its budget and the bound on steps made by chance",
          "[planner][baselines][property]") {
  std::map<std::string, int> repeating;
  int planned = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    planned += check_all_planners(test::RandomTrace(seed).trace(), repeating);
  }
  CHECK(planned > 100);
  CHECK(repeating["tide"] > 0);
}

TEST_CASE("no planner is faster than the best schedule of a tiny step",
          "[planner][baselines][property]") {
  int compared = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const StepTrace trace = test::tiny_step(seed);
    PlanRequest request = request_for(trace);
    const Bytes floor = lower_bound_on_peak(trace).bytes;
    for (const Bytes more : {0, 20, 60}) {
      CAPTURE(seed, more);
      request.budget_bytes = floor + more;
      const auto best = test::ExhaustiveSearch(trace, test::ExhaustiveSearch::Order::recorded)
                            .least_time(*request.budget_bytes);
      for (const Planner* planner : planners()) {
        CAPTURE(planner->name());
        const PlanOutcome outcome = run_planner(*planner, trace, request);
        const auto* plan = std::get_if<Plan>(&outcome);
        if (plan == nullptr || !best) continue;
        ++compared;
        CHECK(*plan->prediction.figures.step_seconds * 1e9 >= static_cast<double>(*best) - 0.5);
      }
    }
  }
  CHECK(compared > 40);
}

TEST_CASE("baselines of blocks say so where a step has none", "[planner][baselines]") {
  const BlockChain chain(3);
  for (const char* name : {"recompute-all", "square-root", "rotor", "torchtitan"}) {
    const Proposal proposal = planner_named(name).plan(chain.trace(), {});
    CHECK(proposal.schedules.empty());
    REQUIRE(proposal.notes.size() == 1);
    CHECK_THAT(proposal.notes.front(), Catch::StartsWith(name));
  }
}

TEST_CASE("whole blocks asked of a planner of operators are refused", "[planner][negative]") {
  const BlockChain chain(3);
  PlanRequest request = request_for(chain.trace());
  request.granularity = Granularity::block;
  request.budget_bytes = 10'000;
  for (const Planner* planner : planners()) {
    CAPTURE(planner->name());
    if (planner->granularity() == Granularity::block) {
      CHECK(std::holds_alternative<Plan>(run_planner(*planner, chain.trace(), request)));
    } else {
      CHECK_THROWS_WITH(
          run_planner(*planner, chain.trace(), request),
          Catch::Contains(std::string(planner->name())) && Catch::Contains("--granularity op"));
    }
  }
}

}  // namespace
}  // namespace tidemark
