#include "offload_plans.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "resident_cut.hpp"
#include "write_schedule.hpp"

namespace tidemark::tide {

namespace {

// How many times longer than its operators the step may get, less one: the longer, the more bytes
// can be moved meanwhile.
constexpr std::array<double, 3> stretches{0, 0.2, 0.6};
constexpr std::int64_t fit_work_per_operator = 30;
constexpr std::int64_t work_per_operator = 80;

}  // namespace

OffloadPlans::OffloadPlans(const StepGraph& graph, const PlanRequest& request,
                           std::vector<Bytes> rungs)
    : graph_(graph),
      request_(request),
      rungs_(std::move(rungs)),
      everything_(graph),
      search_(graph, request.should_stop) {}

std::vector<Schedule> OffloadPlans::plan() {
  const std::optional<OffloadRates> rates = offload_rates(graph_.trace());
  if (!rates || request_.host_budget_bytes <= 0) return {};
  std::vector<OffloadChoice> choices;
  for (const double stretch : stretches) choices.emplace_back(graph_, everything_, *rates, stretch);
  for (const Bytes rung : rungs_) {
    if (rung > request_.budget_bytes) break;
    bool is_free = false;
    std::vector<std::vector<Offload>> tried;
    for (const OffloadChoice& choice : choices) {
      if (search_.is_stopped()) return std::move(schedules_);
      const std::unique_ptr<Retention> plan = fit(choice, rung, tried);
      if (!plan) continue;
      add(*plan);
      is_free = is_free || (&choice == &choices.front() && plan->repeated_nanoseconds() == 0);
      if (is_free) break;
    }
    if (!is_free) continue;
    // With more memory it cannot get faster, but fewer bytes need to move.
    is_optimal_ = true;
    const Bytes budget = *request_.budget_bytes;
    const Retention fewer(graph_, choices.front().choose(budget, request_.host_budget_bytes));
    if (request_.limit == Limit::live && fewer.peak() <= budget) {
      schedules_ = {write_schedule(fewer, request_.runs)};
    }
    break;
  }
  return std::move(schedules_);
}

// As many values on the host as there may be; where the rest cannot be pressed into the rung,
// fewer, since what lies on the host cannot be made again where that would do better.
std::unique_ptr<Retention> OffloadPlans::fit(const OffloadChoice& choice, Bytes rung,
                                             std::vector<std::vector<Offload>>& tried) {
  for (const double share : {0.0, 0.15, 0.35}) {
    const auto more = static_cast<Bytes>(share * static_cast<double>(everything_.peak() - rung));
    std::vector<Offload> offloads = choice.choose(rung + more, request_.host_budget_bytes);
    const bool is_new = std::find(tried.begin(), tried.end(), offloads) == tried.end();
    if (offloads.empty() || !is_new || search_.is_stopped()) continue;
    std::unique_ptr<Retention> plan = fit(offloads, rung);
    tried.push_back(std::move(offloads));
    if (plan) return plan;
  }
  return nullptr;
}

// What is made again beside the offloads, for the rung's sake.
std::unique_ptr<Retention> OffloadPlans::fit(const std::vector<Offload>& offloads, Bytes budget) {
  auto plan = std::make_unique<Retention>(graph_, offloads);
  if (plan->peak() <= budget) return plan;
  const auto work = [&](std::int64_t each) { return each * request_.effort * graph_.end(); };
  std::unique_ptr<Retention> best;
  const auto consider = [&](std::unique_ptr<Retention> start) {
    if (!start || !search_.fit(*start, budget, work(fit_work_per_operator))) return;
    search_.fill(*start, budget);
    const bool is_better = !best || start->repeated_nanoseconds() < best->repeated_nanoseconds();
    if (is_better) best = std::move(start);
  };
  ResidentCut cut(graph_, plan->peak_position(), Order::recorded, offloads);
  for (const double share : {1.0, 0.65}) {
    const auto free_bytes = static_cast<double>(budget - cut.fixed_bytes());
    if (!cut.choose(cut.fixed_bytes() + static_cast<Bytes>(share * free_bytes))) break;
    consider(search_.from_cut(cut, Search::Repeated::held));
  }
  if (!best) consider(std::move(plan));
  if (best) search_.improve(*best, budget, work(work_per_operator));
  return best;
}

void OffloadPlans::add(const Retention& plan) {
  Schedule schedule = write_schedule(plan, request_.runs);
  const StepFigures figures = simulate(graph_.trace(), schedule, request_.simulation).figures;
  const double seconds = figures.step_seconds.value_or(0);
  const bool is_fastest = !fastest_seconds_ || seconds < *fastest_seconds_;
  if (request_.limit == Limit::live) {
    if (!is_fastest) return;
    schedules_.clear();
  }
  if (is_fastest) fastest_seconds_ = seconds;
  schedules_.push_back(std::move(schedule));
}

}  // namespace tidemark::tide
