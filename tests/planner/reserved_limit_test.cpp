// Plans whose budget limits what the caching allocator takes from the device.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <variant>
#include <vector>

#include "allocations.hpp"
#include "model_steps.hpp"
#include "planner_named.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

StepFigures figures_of(const StepTrace& trace, const Schedule& schedule) {
  return simulate(trace, schedule).figures;
}

// Of a GPU, with storages of some MiB, so that segments count.
std::vector<StepTrace> gpu_steps() {
  std::vector<StepTrace> steps{test::transformer_step(2), test::resnet_step({1, 1}),
                               test::layered_step(20, 7)};
  for (StepTrace& step : steps) {
    const Bytes largest =
        std::max_element(step.storages.begin(), step.storages.end(), [](auto& a, auto& b) {
          return a.bytes < b.bytes;
        })->bytes;
    const Bytes scale = std::max<Bytes>(1, 8 * mebibyte / std::max<Bytes>(largest, 1));
    for (Storage& storage : step.storages) storage.bytes *= scale;
    for (Op& op : step.ops) op.workspace_bytes *= scale;
    test::add_allocations(step);
    REQUIRE(check_trace(step).empty());
  }
  return steps;
}

TEST_CASE("a plan's reserved bytes stay within its budget, and a larger one is never slower",
          "[planner][property]") {
  for (const StepTrace& trace : gpu_steps()) {
    const StepFigures plain = figures_of(trace, plain_schedule(trace));
    REQUIRE(plain.reserved_peak_bytes);
    const Bytes static_bytes = plain.static_bytes;
    const Bytes own = *plain.reserved_peak_bytes - static_bytes;
    double slowest = std::numeric_limits<double>::infinity();
    int plans = 0;
    for (const int percent : {40, 55, 70, 85, 100}) {
      CAPTURE(percent);
      PlanRequest request;
      request.runs = find_blocks(trace);
      request.limit = Limit::reserved;
      request.budget_bytes = static_bytes + own * percent / 100;
      const Planner& tide = test::planner_named("tide");
      const PlanOutcome outcome = run_planner(tide, trace, request);
      const auto* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) {
        CHECK(slowest == std::numeric_limits<double>::infinity());
        CHECK(std::get<Infeasible>(outcome).smallest_reached->bytes > *request.budget_bytes);
        continue;
      }
      ++plans;
      const StepFigures figures = figures_of(trace, plan->schedule);
      CHECK(figures == plan->prediction.figures);
      CHECK(*figures.reserved_peak_bytes <= *request.budget_bytes);
      CHECK(figures.live_peak_bytes <= *figures.reserved_peak_bytes);
      CHECK(*figures.step_seconds <= slowest);
      slowest = *figures.step_seconds;
    }
    // Something was gained, and with all that the plain step takes nothing runs again.
    CHECK(plans > 2);
    CHECK(slowest == Approx(*plain.step_seconds));
  }
}

TEST_CASE("what the allocator adds can make the same budget dearer or impossible", "[planner]") {
  for (const StepTrace& trace : gpu_steps()) {
    const StepFigures plain = figures_of(trace, plain_schedule(trace));
    PlanRequest request;
    request.runs = find_blocks(trace);
    request.budget_bytes =
        plain.static_bytes + (plain.live_peak_bytes - plain.static_bytes) * 7 / 10;
    double faster = 0;
    for (const Limit limit : {Limit::live, Limit::allocated, Limit::reserved}) {
      request.limit = limit;
      const PlanOutcome outcome = run_planner(*planners().back(), trace, request);
      const auto* plan = std::get_if<Plan>(&outcome);
      if (plan == nullptr) {
        CHECK(limit != Limit::live);
        continue;
      }
      const StepFigures& figures = plan->prediction.figures;
      CHECK(*peak_bytes(figures, limit) <= *request.budget_bytes);
      CHECK(*figures.step_seconds >= faster);
      faster = *figures.step_seconds;
    }
  }
}

}  // namespace
}  // namespace tidemark
