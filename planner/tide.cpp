// The project's own planner: single operators, held or made again as often as useful.
//
// Budgets lie on a fixed ladder. Going up from the smallest, each rung starts from the plan of the
// rung below, from the cheapest residents at the most crowded moment (a minimum cut), and from
// other planners' plans; the best is filled up and improved by large-neighbourhood search. A larger
// budget passes the same rungs and some more, so that its plan is never slower.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "strategies.hpp"
#include "tide/crowded_moments.hpp"
#include "tide/resident_cut.hpp"
#include "tide/search.hpp"
#include "tide/write_schedule.hpp"

namespace tidemark {

namespace {

using tide::Order;
using tide::ResidentCut;
using tide::Retention;
using tide::Search;
using tide::StepGraph;

constexpr int rungs = 40;
// Every so many rungs the search starts afresh and works harder.
constexpr int rungs_per_landing = 4;
constexpr tide::Position most_operators_to_repeat_for_each_use = 4000;
constexpr std::int64_t work_per_operator = 20;
constexpr std::int64_t landing_work_per_operator = 80;

Prediction keep_all(const StepTrace& trace) {
  auto built = build_schedule(trace, {}, Setting{});
  return simulate(trace, std::get<BuiltSchedule>(built).schedule);
}

class Climb {
 public:
  Climb(const StepTrace& trace, const PlanRequest& request)
      : trace_(trace),
        request_(request),
        graph_(trace),
        everything_(graph_),
        search_(graph_, request.should_stop) {
    const Bytes highest = keep_all(trace).figures.live_peak_bytes;
    range_ = std::max<Bytes>(highest - graph_.static_bytes(), rungs);
  }

  [[nodiscard]] Proposal plan() {
    const bool fits = !request_.budget_bytes || everything_.peak() <= *request_.budget_bytes;
    if (fits) add(everything_);
    if (fits && (!request_.budget_bytes || request_.limit == Limit::live)) {
      return std::move(proposal_);
    }
    const Bytes budget = *request_.budget_bytes;
    std::optional<Schedule> at_once;
    if (request_.should_stop) at_once = Climb(trace_, request_).plan_at_once(budget);
    note_others();
    climb(budget);
    if (!best_ && !search_.is_stopped()) reach(budget);
    start_from_others(budget);
    if (search_.is_stopped() && at_once) proposal_.schedules.push_back(std::move(*at_once));
    if (best_) add(*best_);
    if (proposal_.schedules.empty() && smallest_) add(*smallest_);
    proposal_.truncated = search_.is_stopped();
    return std::move(proposal_);
  }

  // What there is to say when there is no time for the climb.
  [[nodiscard]] std::optional<Schedule> plan_at_once(Bytes budget) {
    const std::unique_ptr<Retention> plan = start(budget);
    if (!plan) return std::nullopt;
    return tide::write_schedule(*plan, request_.runs);
  }

 private:
  [[nodiscard]] Bytes rung(int number) const {
    return graph_.static_bytes() + range_ / rungs * number;
  }

  void add(const Retention& plan) {
    proposal_.schedules.push_back(tide::write_schedule(plan, request_.runs));
  }

  // The other planners' schedules: the fastest within the budget is one of the answers.
  void note_others() {
    std::optional<std::pair<double, Bytes>> best;
    Schedule best_other;
    for (const Planner* planner : planners()) {
      if (planner == &tide_planner()) continue;
      for (Schedule& schedule : planner->plan(trace_, request_).schedules) {
        if (search_.is_stopped()) return;
        const StepFigures figures = simulate(trace_, schedule).figures;
        if (std::unique_ptr<Retention> plan = search_.from_schedule(schedule)) {
          others_.push_back(std::move(plan));
        }
        const std::optional<Bytes> peak = peak_bytes(figures, request_.limit);
        const bool fits = peak && *peak <= *request_.budget_bytes &&
                          figures.host_peak_bytes <= request_.host_budget_bytes;
        const std::pair order(figures.step_seconds.value_or(0), peak.value_or(0));
        if (!fits || (best && *best <= order)) continue;
        best = order;
        best_other = std::move(schedule);
      }
    }
    if (best) proposal_.schedules.push_back(std::move(best_other));
  }

  void keep_better(std::unique_ptr<Retention>& best, std::unique_ptr<Retention> plan) const {
    if (!best || plan->repeated_nanoseconds() < best->repeated_nanoseconds()) {
      best = std::move(plan);
    }
  }

  void note_smallest(const Retention& plan) {
    if (!smallest_ || plan.peak() < smallest_->peak()) {
      smallest_ = std::make_unique<Retention>(plan);
    }
  }

  // True: it fitted as it was.
  bool start_from_cut(Bytes budget, Search::Repeated repeated, std::unique_ptr<Retention>& best) {
    std::unique_ptr<Retention> plan = search_.from_cut(*cut_, repeated);
    if (!plan) return false;
    const bool fits_at_once = plan->peak() <= budget;
    const bool fits = search_.fit(*plan, budget);
    note_smallest(*plan);
    if (!fits) return false;
    search_.fill(*plan, budget);
    keep_better(best, std::move(plan));
    return fits_at_once;
  }

  // Keep less at the most crowded moment than would fit there, since what is made again later needs
  // room too.
  [[nodiscard]] std::unique_ptr<Retention> start(Bytes budget) {
    std::unique_ptr<Retention> best;
    if (!cut_) cut_.emplace(graph_, everything_.peak_position(), Order::recorded);
    for (const double share : {1.0, 0.84, 0.65, 0.5}) {
      const auto free_bytes = static_cast<double>(budget - cut_->fixed_bytes());
      if (!cut_->choose(cut_->fixed_bytes() + static_cast<Bytes>(share * free_bytes))) break;
      if (start_from_cut(budget, Search::Repeated::held, best)) break;
      // Making everything again for each use takes room and time that grow with the square.
      if (graph_.end() <= most_operators_to_repeat_for_each_use) {
        start_from_cut(budget, Search::Repeated::dropped, best);
      }
      if (search_.is_stopped()) break;
    }
    return best;
  }

  [[nodiscard]] const Retention* fastest_other(Bytes budget) const {
    const Retention* fastest = nullptr;
    for (const std::unique_ptr<Retention>& other : others_) {
      if (other->peak() > budget) continue;
      const bool is_faster =
          fastest == nullptr || other->repeated_nanoseconds() < fastest->repeated_nanoseconds();
      if (is_faster) fastest = other.get();
    }
    return fastest;
  }

  // Where another planner's answer, improved, is the fastest, it is ours. Not part of the climb:
  // what others answer to one budget says nothing about another.
  void start_from_others(Bytes budget) {
    const Retention* other = fastest_other(budget);
    if (other == nullptr || search_.is_stopped()) return;
    std::unique_ptr<Retention> ours = std::exchange(best_, std::make_unique<Retention>(*other));
    improve(budget, landing_work_per_operator);
    if (ours) keep_better(best_, std::move(ours));
  }

  void climb(Bytes budget) {
    const Bytes floor = lower_bound_on_peak(trace_).bytes;
    for (int number = 1; number <= rungs && rung(number) <= budget; ++number) {
      if (search_.is_stopped()) return;
      if (rung(number) < floor) continue;
      const bool is_landing = number % rungs_per_landing == 0;
      if (is_landing || !best_) {
        std::unique_ptr<Retention> fresh = start(rung(number));
        if (fresh) keep_better(best_, std::move(fresh));
      }
      if (!best_) continue;
      improve(rung(number), is_landing ? landing_work_per_operator : work_per_operator);
      // What the allocator makes of a plan is only known afterwards: every rung is a candidate.
      if (request_.limit != Limit::live) add(*best_);
    }
  }

  void improve(Bytes budget, std::int64_t work) {
    search_.fill(*best_, budget);
    search_.improve(*best_, budget, work * request_.effort * graph_.end());
  }

  // Below the lowest rung that can be reached.
  void reach(Bytes budget) {
    best_ = start(budget);
    if (best_) return improve(budget, landing_work_per_operator);
    auto plan = std::make_unique<Retention>(everything_);
    const bool fits = search_.fit(*plan, budget);
    note_smallest(*plan);
    if (fits) best_ = std::move(plan);
  }

  const StepTrace& trace_;
  const PlanRequest& request_;
  StepGraph graph_;
  Retention everything_;
  Search search_;
  Bytes range_ = 0;
  std::optional<ResidentCut> cut_;
  std::vector<std::unique_ptr<Retention>> others_;
  std::unique_ptr<Retention> best_;
  std::unique_ptr<Retention> smallest_;
  Proposal proposal_;
};

// Block-level plans are other planners' business; the fastest of theirs is the answer.
Proposal best_of_others(const StepTrace& trace, const PlanRequest& request) {
  Proposal all;
  for (const Planner* planner : planners()) {
    if (planner == &tide_planner()) continue;
    Proposal one = planner->plan(trace, request);
    all.truncated = all.truncated || one.truncated;
    for (Schedule& schedule : one.schedules) all.schedules.push_back(std::move(schedule));
  }
  return all;
}

class Tide final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "tide"; }
  [[nodiscard]] std::string_view description() const override {
    return "single operators, kept or recomputed, by minimum cuts and large-neighbourhood search";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    if (request.granularity == Granularity::block) return best_of_others(trace, request);
    return Climb(trace, request).plan();
  }
};

}  // namespace

const Planner& tide_planner() {
  static const Tide planner;
  return planner;
}

}  // namespace tidemark
