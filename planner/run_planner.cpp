#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

namespace {

// Throws InternalError where a schedule breaks a rule.
void judge(const Planner& planner, const StepTrace& trace, const Schedule& schedule) {
  const std::vector<Violation> violations = validate(trace, schedule);
  if (violations.empty()) return;
  throw InternalError("planner " + std::string(planner.name()) + " broke a rule at step " +
                      std::to_string(violations.front().step) + ": " + violations.front().message);
}

Bytes limited_peak(const StepFigures& figures, Limit limit) {
  const std::optional<Bytes> peak = peak_bytes(figures, limit);
  if (peak) return *peak;
  throw UsageError("this trace has no " + std::string(name(limit)) +
                   " bytes, since its device has no caching allocator; use --limit live");
}

// Faster first; of equally fast ones the smaller.
std::pair<double, Bytes> order(const Prediction& prediction, Limit limit) {
  return {prediction.figures.step_seconds.value_or(0), limited_peak(prediction.figures, limit)};
}

}  // namespace

PlanOutcome run_planner(const Planner& planner, const StepTrace& trace,
                        const PlanRequest& request) {
  if (request.granularity == Granularity::block && planner.granularity() == Granularity::op) {
    throw UsageError("planner " + std::string(planner.name()) +
                     " decides about single operators, not whole blocks; use --granularity op, or "
                     "--planner tide");
  }
  Proposal proposal = planner.plan(trace, request);
  std::optional<Plan> best;
  std::optional<BoundPeak> smallest;
  for (Schedule& schedule : proposal.schedules) {
    judge(planner, trace, schedule);
    Prediction prediction = simulate(trace, schedule, request.simulation);
    const StepFigures& figures = prediction.figures;
    const Bytes peak = limited_peak(figures, request.limit);
    if (!smallest || peak < smallest->bytes) {
      smallest = BoundPeak{.bytes = peak, .op = figures.peak_op};
    }
    const bool fits = !prediction.out_of_memory &&
                      (!request.budget_bytes || peak <= *request.budget_bytes) &&
                      figures.host_peak_bytes <= request.host_budget_bytes;
    if (!fits ||
        (best && order(best->prediction, request.limit) <= order(prediction, request.limit))) {
      continue;
    }
    best = Plan{.planner = std::string(planner.name()),
                .schedule = std::move(schedule),
                .prediction = std::move(prediction),
                .lower_bound_seconds = {},
                .gap = {},
                .notes = {}};
  }
  if (!best) {
    return Infeasible{.smallest_reached = smallest, .lower_bound = lower_bound_on_peak(trace)};
  }
  best->truncated = proposal.truncated;
  best->notes = std::move(proposal.notes);
  best->lower_bound_seconds = lower_bound_seconds(trace, request);
  const std::optional<double> step = best->prediction.figures.step_seconds;
  if (best->lower_bound_seconds && step && *step > 0) {
    best->gap = (*step - *best->lower_bound_seconds) / *step;
  }
  return std::move(*best);
}

}  // namespace tidemark
