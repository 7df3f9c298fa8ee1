#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

PlanOutcome run_planner(const Planner& planner, const StepTrace& trace,
                        const PlanRequest& request) {
  std::optional<Plan> best;
  Bytes smallest = std::numeric_limits<Bytes>::max();
  for (Schedule& schedule : planner.plan(trace, request)) {
    const std::vector<Violation> violations = validate(trace, schedule);
    if (!violations.empty()) {
      throw InternalError("planner " + std::string(planner.name()) + " broke a rule at step " +
                          std::to_string(violations.front().step) + ": " +
                          violations.front().message);
    }
    Prediction prediction = simulate(trace, schedule);
    smallest = std::min(smallest, prediction.figures.live_peak_bytes);
    const bool fits =
        !request.budget_bytes || prediction.figures.live_peak_bytes <= *request.budget_bytes;
    const auto order = [](const Prediction& p) {
      return std::pair(p.figures.step_seconds.value_or(0), p.figures.live_peak_bytes);
    };
    if (!fits || (best && order(best->prediction) <= order(prediction))) continue;
    best = Plan{.planner = std::string(planner.name()),
                .schedule = std::move(schedule),
                .prediction = std::move(prediction),
                .lower_bound_seconds = {},
                .notes = {}};
  }
  if (best) return std::move(*best);
  return Infeasible{.smallest_reached_bytes = smallest};
}

}  // namespace tidemark
