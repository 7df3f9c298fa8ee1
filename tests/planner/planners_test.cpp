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
      PlanRequest request{.budget_bytes = {}, .runs = find_blocks(chain.trace())};
      for (const Bytes budget : {0, 400, 700, 10'000}) {
        request.budget_bytes = budget;
        const PlanOutcome outcome = run_planner(*planner, chain.trace(), request);
        if (const auto* plan = std::get_if<Plan>(&outcome)) {
          CHECK(plan->prediction.figures.live_peak_bytes <= budget);
          const PlanOutcome again = run_planner(*planner, chain.trace(), request);
          CHECK(std::get<Plan>(again).schedule == plan->schedule);
        } else {
          CHECK(std::get<Infeasible>(outcome).smallest_reached_bytes > budget);
        }
      }
    }
  }
}

class Broken final : public Planner {
 public:
  std::string_view name() const override { return "broken"; }
  std::string_view description() const override { return ""; }
  std::vector<Schedule> plan(const StepTrace&, const PlanRequest&) const override {
    return {Schedule{}};
  }
};

TEST_CASE("a planner that breaks a rule is an internal error that names it", "[planner]") {
  const BlockChain chain(2);
  CHECK_THROWS_AS(run_planner(Broken(), chain.trace(), {}), InternalError);
  CHECK_THROWS_WITH(run_planner(Broken(), chain.trace(), {}), Catch::Contains("broken"));
}

}  // namespace
}  // namespace tidemark
