#include <catch2/catch.hpp>
#include <optional>
#include <stdexcept>
#include <variant>
#include <vector>

#include "exhaustive.hpp"
#include "model_steps.hpp"
#include "planner_named.hpp"
#include "random_trace.hpp"
#include "tide/min_cut.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

using test::ExhaustiveSearch;

std::vector<Bytes> budgets_between(const StepTrace& trace, int count) {
  const Bytes low = lower_bound_on_peak(trace).bytes;
  auto built = build_schedule(trace, {}, Setting{});
  const Bytes high =
      simulate(trace, std::get<BuiltSchedule>(built).schedule).figures.live_peak_bytes;
  std::vector<Bytes> budgets;
  for (int b = 0; b < count; ++b) budgets.push_back(low + (high - low) * b / count);
  return budgets;
}

TEST_CASE("bounds hold for every schedule of tiny steps, and tide comes close to the best",
          "[bounds][property]") {
  int optimal = 0;
  int feasible = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const StepTrace trace = test::tiny_step(seed);
    REQUIRE(check_trace(trace).empty());
    for (const Bytes budget : budgets_between(trace, 3)) {
      INFO("seed " << seed << " budget " << budget);
      const auto best = ExhaustiveSearch(trace, ExhaustiveSearch::Order::any).least_time(budget);
      const auto in_order =
          ExhaustiveSearch(trace, ExhaustiveSearch::Order::recorded).least_time(budget);
      PlanRequest request;
      request.budget_bytes = budget;
      const double bound = *lower_bound_seconds(trace, request) * 1e9;
      if (best) CHECK(bound <= static_cast<double>(*best) + 0.5);
      const PlanOutcome outcome = run_planner(test::planner_named("tide"), trace, request);
      const auto* plan = std::get_if<Plan>(&outcome);
      if (plan != nullptr && in_order) {
        const double found = *plan->prediction.figures.step_seconds * 1e9;
        CHECK(found >= static_cast<double>(*in_order) - 0.5);
        if (found <= static_cast<double>(*in_order) + 0.5) ++optimal;
      }
      if (in_order) ++feasible;
    }
  }
  // The ladder's rungs cost some budgets a little.
  CHECK(feasible > 10);
  CHECK(optimal * 10 >= feasible * 6);
}

TEST_CASE("bounds hold where operators are random, overwrite, or keep state",
          "[bounds][property]") {
  int compared = 0;
  for (unsigned seed = 0; seed < 400 && compared < 15; ++seed) {
    const StepTrace trace = test::RandomTrace(seed).trace();
    if (trace.ops.size() > 4 || trace.storages.size() > 7) continue;
    for (const Bytes budget : budgets_between(trace, 3)) {
      INFO("seed " << seed << " budget " << budget);
      const auto best = ExhaustiveSearch(trace, ExhaustiveSearch::Order::any).least_time(budget);
      if (!best) continue;
      PlanRequest request;
      request.budget_bytes = budget;
      const std::optional<double> bound = lower_bound_seconds(trace, request);
      if (!bound) continue;
      CHECK(*bound * 1e9 <= static_cast<double>(*best) + 0.5);
      ++compared;
    }
  }
  CHECK(compared >= 10);
}

TEST_CASE("a minimum cut separates at the least capacity", "[bounds]") {
  // source 0, sink 1:  0 -3-> 2 -2-> 1,  0 -2-> 3 -4-> 1,  2 -1-> 3
  tide::MinCut cut(4);
  const std::size_t first = cut.add_edge(0, 2, 3);
  cut.add_edge(2, 1, 2);
  cut.add_edge(0, 3, 2);
  cut.add_edge(3, 1, 4);
  cut.add_edge(2, 3, 1);
  CHECK(cut.solve(0, 1) == 5);
  cut.set_capacity(first, 1);
  CHECK(cut.solve(0, 1) == 3);
  CHECK(cut.is_on_source_side(0));
  CHECK_FALSE(cut.is_on_source_side(2));
  cut.set_capacity(first, tide::MinCut::unlimited);
  CHECK(cut.solve(0, 1) == 5);
}

}  // namespace
}  // namespace tidemark
