#include <catch2/catch.hpp>
#include <variant>

#include "block_chain.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

TEST_CASE("every planner keeps its budget and says the same twice", "[planner][property]") {
  REQUIRE_FALSE(planners().empty());
  for (const Planner* planner : planners()) {
    for (const int blocks : {2, 3, 6}) {
      const BlockChain chain(blocks);
      PlanRequest request;
      request.runs = find_blocks(chain.trace());
      for (const Bytes budget : {0, 400, 700, 10'000}) {
        request.budget_bytes = budget;
        const PlanOutcome outcome = run_planner(*planner, chain.trace(), request);
        if (const auto* plan = std::get_if<Plan>(&outcome)) {
          CHECK(plan->prediction.figures.live_peak_bytes <= budget);
          const PlanOutcome again = run_planner(*planner, chain.trace(), request);
          CHECK(std::get<Plan>(again).schedule == plan->schedule);
        } else {
          const auto& none = std::get<Infeasible>(outcome);
          REQUIRE(none.smallest_reached);
          CHECK(none.smallest_reached->bytes > budget);
          CHECK(none.smallest_reached->bytes >= none.lower_bound.bytes);
        }
      }
    }
  }
}

class Broken final : public Planner {
 public:
  std::string_view name() const override { return "broken"; }
  std::string_view description() const override { return ""; }
  Proposal plan(const StepTrace&, const PlanRequest&) const override {
    return {.schedules = {Schedule{}}, .truncated = false, .notes = {}};
  }
};

TEST_CASE("a planner that breaks a rule is an internal error that names it", "[planner]") {
  const BlockChain chain(2);
  CHECK_THROWS_AS(run_planner(Broken(), chain.trace(), {}), InternalError);
  CHECK_THROWS_WITH(run_planner(Broken(), chain.trace(), {}), Catch::Contains("broken"));
}

TEST_CASE("a plan carries a bound and a gap that agree", "[planner]") {
  const BlockChain chain(3);
  const PlanOutcome outcome = run_planner(*planners().front(), chain.trace(), {});
  const auto& plan = std::get<Plan>(outcome);
  REQUIRE(plan.lower_bound_seconds);
  REQUIRE(plan.gap);
  // Keeping everything runs each operator once: there is nothing faster.
  CHECK(*plan.lower_bound_seconds == Approx(*plan.prediction.figures.step_seconds));
  CHECK(*plan.gap == Approx(0).margin(1e-9));
}

TEST_CASE("a limit without figures is refused", "[planner][negative]") {
  const BlockChain chain(2);
  PlanRequest request;
  request.limit = Limit::reserved;
  CHECK_THROWS_WITH(run_planner(*planners().front(), chain.trace(), request),
                    Catch::Contains("reserved"));
}

TEST_CASE("no schedule of a chain can do with less than its largest operator", "[planner]") {
  const BlockChain chain(2);
  // Static 30; down_backward reads a gradient (40) and h (100) and makes another (100).
  CHECK(lower_bound_on_peak(chain.trace()).bytes == 30 + 40 + 100 + 100);
}

}  // namespace
}  // namespace tidemark
