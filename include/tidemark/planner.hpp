// The Planner seam: a strategy that turns a step into a schedule.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tidemark/prediction.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct PlanRequest {
  std::optional<Bytes> budget_bytes;  // absolute, as every peak; absent: the planner's own choice
  std::vector<BlockRun> runs;
};

struct Plan {
  std::string planner;
  Schedule schedule;
  Prediction prediction;
  std::optional<double> lower_bound_seconds;
  bool truncated = false;  // ended early by a time limit or Ctrl-C
  std::vector<std::string> notes;
};

struct Infeasible {
  Bytes smallest_reached_bytes = 0;  // the smallest peak that the planner reached
};

using PlanOutcome = std::variant<Plan, Infeasible>;

// Deterministic, no input or output, no state between calls; ties are broken by id.
class Planner {
 public:
  Planner() = default;
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;
  virtual ~Planner() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::string_view description() const = 0;
  // Schedules in the order of preference; run_planner() judges them.
  [[nodiscard]] virtual std::vector<Schedule> plan(const StepTrace& trace,
                                                   const PlanRequest& request) const = 0;
};

[[nodiscard]] std::span<const Planner* const> planners();

// The only caller of Planner::plan: validates and simulates each schedule and gives the fastest
// one within the budget. A planner that breaks a rule is a bug: InternalError naming it.
[[nodiscard]] PlanOutcome run_planner(const Planner& planner, const StepTrace& trace,
                                      const PlanRequest& request);

}  // namespace tidemark
