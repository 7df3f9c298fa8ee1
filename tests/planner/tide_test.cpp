#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "model_steps.hpp"
#include "planner_named.hpp"
#include "random_trace.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

using test::planner_named;

StepFigures plain_figures(const StepTrace& trace) {
  return simulate(trace, plain_schedule(trace)).figures;
}

Bytes share(const StepFigures& plain, double part) {
  const auto range = static_cast<double>(plain.live_peak_bytes - plain.static_bytes);
  return plain.static_bytes + static_cast<Bytes>(part * range);
}

struct NamedStep {
  const char* name;
  StepTrace trace;
};

std::vector<NamedStep> steps() {
  std::vector<NamedStep> all;
  all.push_back({"transformer", test::transformer_step(2)});
  all.push_back({"residual blocks", test::resnet_step({1, 1})});
  all.push_back({"long skips", test::unet_step(1)});
  all.push_back({"dense blocks", test::densenet_step({2, 2})});
  for (const std::uint64_t seed : {7, 8}) {
    all.push_back({"layers by chance", test::layered_step(20, seed)});
    all.push_back({"chain", test::chain_step(12, seed)});
    all.push_back({"any", test::RandomTrace(seed).trace()});
  }
  all.push_back({"equal blocks", test::BlockChain(7).trace()});
  return all;
}

TEST_CASE("tide is never slower than another planner", "[tide][property]") {
  for (const NamedStep& step : steps()) {
    INFO(step.name);
    const StepFigures plain = plain_figures(step.trace);
    PlanRequest request;
    request.runs = find_blocks(step.trace);
    const Bytes floor = lower_bound_on_peak(step.trace).bytes;
    for (const int tenths : {0, 2, 6}) {
      INFO("tenths " << tenths);
      request.budget_bytes = floor + (plain.live_peak_bytes - floor) * tenths / 10;
      const PlanOutcome ours = run_planner(planner_named("tide"), step.trace, request);
      for (const Planner* planner : planners()) {
        const PlanOutcome theirs = run_planner(*planner, step.trace, request);
        const auto* plan = std::get_if<Plan>(&theirs);
        if (plan == nullptr) continue;
        INFO(planner->name());
        REQUIRE(std::holds_alternative<Plan>(ours));
        CHECK(*std::get<Plan>(ours).prediction.figures.step_seconds <=
              *plan->prediction.figures.step_seconds);
      }
    }
  }
}

TEST_CASE("a larger budget never gives a slower plan", "[tide][property]") {
  std::mt19937_64 random(5);
  for (const NamedStep& step : steps()) {
    INFO(step.name);
    const StepFigures plain = plain_figures(step.trace);
    // Close together at the low end, where plans are hard to find.
    const Bytes floor = lower_bound_on_peak(step.trace).bytes;
    const Bytes range = plain.live_peak_bytes - floor;
    std::vector<Bytes> budgets{floor, floor + range / 40, floor + range / 20,
                               plain.live_peak_bytes};
    while (budgets.size() < 6) {
      budgets.push_back(floor +
                        static_cast<Bytes>(random() % static_cast<std::uint64_t>(range + 1)));
    }
    std::sort(budgets.begin(), budgets.end());
    double slowest = std::numeric_limits<double>::infinity();
    for (const Bytes budget : budgets) {
      INFO("budget " << budget);
      PlanRequest request;
      request.runs = find_blocks(step.trace);
      request.budget_bytes = budget;
      const PlanOutcome outcome = run_planner(planner_named("tide"), step.trace, request);
      const auto* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) {
        CHECK(slowest == std::numeric_limits<double>::infinity());
        continue;
      }
      CHECK(plan->prediction.figures.live_peak_bytes <= *request.budget_bytes);
      CHECK(*plan->prediction.figures.step_seconds <= slowest);
      CHECK(*plan->lower_bound_seconds <= *plan->prediction.figures.step_seconds);
      slowest = *plan->prediction.figures.step_seconds;
    }
    // With the plain step's peak nothing has to be run again.
    CHECK(slowest == Approx(*plain.step_seconds));
  }
}

TEST_CASE("half the activation memory costs little, and the bound is close", "[tide]") {
  // Published planners report 6 to 20 % at budgets like this one.
  const StepTrace trace = test::unet_step();
  const StepFigures plain = plain_figures(trace);
  PlanRequest request;
  request.budget_bytes = share(plain, 0.5);
  const PlanOutcome outcome = run_planner(planner_named("tide"), trace, request);
  const auto& plan = std::get<Plan>(outcome);
  CHECK(*plan.prediction.figures.step_seconds < 1.05 * *plain.step_seconds);
  CHECK(*plan.gap < 0.03);
}

TEST_CASE("a stopped planner answers with what it has, marked truncated", "[tide]") {
  const StepTrace trace = test::transformer_step(2);
  PlanRequest request;
  request.budget_bytes = share(plain_figures(trace), 0.6);
  request.runs = find_blocks(trace);
  for (const int questions : {0, 1, 5}) {
    request.should_stop = [left = questions]() mutable { return left-- <= 0; };
    const PlanOutcome outcome = run_planner(planner_named("tide"), trace, request);
    if (const auto* plan = std::get_if<Plan>(&outcome)) CHECK(plan->truncated);
  }
}

}  // namespace
}  // namespace tidemark
