// The Planner seam: a strategy that turns a step into a schedule.
#pragma once

#include <cstdint>
#include <functional>
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

// Which peak a budget limits.
enum class Limit : std::uint8_t { live, allocated, reserved };
[[nodiscard]] std::string_view name(Limit value);  // "live", "allocated", "reserved"
// The peak of that kind; absent where the device has no such allocator.
[[nodiscard]] std::optional<Bytes> peak_bytes(const StepFigures& figures, Limit limit);

// What a plan decides about: single operators, or whole blocks, which every framework can express.
enum class Granularity : std::uint8_t { op, block };

struct PlanRequest {
  std::optional<Bytes> budget_bytes;  // absolute, as every peak; absent: the planner's own choice
  Bytes host_budget_bytes = 0;        // for offloaded values; 0: nothing is offloaded
  Limit limit = Limit::live;
  SimulateOptions simulation;  // of the caching allocator, whose bytes a limit may count
  Granularity granularity = Granularity::op;
  std::vector<BlockRun> runs;
  // Multiples of a planner's usual work. Work is counted, never timed: the same request gives the
  // same plan on every machine.
  std::int32_t effort = 1;
  // Asked between units of work of about a millisecond; true: answer with the best so far, marked
  // truncated. Empty: never.
  std::function<bool()> should_stop;

  [[nodiscard]] bool is_stopped() const { return should_stop && should_stop(); }
};

// What a planner answers: schedules in the order of preference, which run_planner() judges.
struct Proposal {
  std::vector<Schedule> schedules;
  bool truncated = false;  // ended early because it was stopped
  std::vector<std::string> notes;
};

struct Plan {
  std::string planner;
  Schedule schedule;
  Prediction prediction;
  // No schedule within the budget is faster; absent where the trace has no times.
  std::optional<double> lower_bound_seconds;
  // (predicted - bound) / predicted step time.
  std::optional<double> gap;
  bool truncated = false;  // ended early by a time limit or Ctrl-C
  std::vector<std::string> notes;
};

// A level in bytes and the operator during which it is reached; absent: no operator runs then.
struct BoundPeak {
  Bytes bytes = 0;
  std::optional<OpId> op;
  bool operator==(const BoundPeak&) const = default;
};

struct Infeasible {
  // The smallest peak (of the request's limit) among the planner's schedules; absent: it had none.
  std::optional<BoundPeak> smallest_reached;
  // No schedule of this step has a smaller live peak. Above the budget: proven infeasible.
  BoundPeak lower_bound;
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
  // The coarsest decisions that it can keep to: block, where it can plan for whole blocks.
  [[nodiscard]] virtual Granularity granularity() const { return Granularity::op; }
  [[nodiscard]] virtual Proposal plan(const StepTrace& trace, const PlanRequest& request) const = 0;
};

[[nodiscard]] std::span<const Planner* const> planners();

// No schedule of the step, in whichever order, has a live peak below this.
[[nodiscard]] BoundPeak lower_bound_on_peak(const StepTrace& trace);

// No schedule that keeps the request's budget and host budget takes less time. Absent: the trace
// has no times.
[[nodiscard]] std::optional<double> lower_bound_seconds(const StepTrace& trace,
                                                        const PlanRequest& request);

// What a schedule does differently from the recorded step, for people: what is recomputed and what
// is offloaded, by module, one sentence each ("h.*: mlp.act (gelu) recomputed in 0 to 11, 3.1 ms"),
// the costliest first. Empty: nothing.
[[nodiscard]] std::vector<std::string> describe_decisions(const StepTrace& trace,
                                                          const Schedule& schedule);

// The only caller of Planner::plan but for planners that start from other planners' answers:
// validates and simulates each schedule and gives the fastest one within the budgets. A planner
// that breaks a rule is a bug: InternalError naming it. A limit that the trace has no figures for,
// and whole blocks asked of a planner of single operators, are a UsageError.
[[nodiscard]] PlanOutcome run_planner(const Planner& planner, const StepTrace& trace,
                                      const PlanRequest& request);

}  // namespace tidemark
