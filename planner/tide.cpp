// The project's own planner: single operators, held or made again as often as useful.
//
// Budgets lie on a fixed ladder. Going up from the smallest that can be reached, each rung starts
// from the plan of the rung below, from the cheapest residents at the most crowded moment (a
// minimum cut), and from the fastest of the other planners' plans that fits; the best is filled up
// and improved by large-neighbourhood search. Other planners propose the same plans whatever the
// budget. So a larger budget passes the same rungs and some more, and chooses among the same plans
// of others and some more: its plan is never slower.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "budget_ladder.hpp"
#include "strategies.hpp"
#include "tide/offload_plans.hpp"
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

constexpr int tide_rungs = 40;
constexpr int offload_rungs = 20;
// Every so many rungs the search starts afresh and works harder.
constexpr int rungs_per_landing = 4;
constexpr tide::Position most_operators_to_repeat_for_each_use = 4000;
constexpr std::int64_t work_per_operator = 40;
constexpr std::int64_t landing_work_per_operator = 160;
// Smaller steps are worked on so many times harder.
constexpr std::int64_t operators_of_a_large_step = 600;
// What pressing one plan into a budget may take before another start is tried; and the last try.
constexpr std::int64_t fit_work_per_operator = 30;
constexpr std::int64_t last_fit_work_per_operator = 300;

class Climb {
 public:
  Climb(const StepTrace& trace, const PlanRequest& request)
      : trace_(trace),
        request_(request),
        graph_(trace),
        everything_(graph_),
        search_(graph_, request.should_stop),
        rungs_(budget_ladder(trace, tide_rungs)),
        thoroughness_(
            std::clamp<std::int64_t>(operators_of_a_large_step / (graph_.end() + 1), 1, 10)) {}

  [[nodiscard]] Proposal plan() {
    const bool fits = !request_.budget_bytes || everything_.peak() <= *request_.budget_bytes;
    if (fits) add(everything_);
    if (fits && (!request_.budget_bytes || request_.limit == Limit::live)) {
      return std::move(proposal_);
    }
    const Bytes budget = *request_.budget_bytes;
    if (add_offloading() && request_.limit == Limit::live) return std::move(proposal_);
    std::optional<Schedule> at_once;
    if (request_.should_stop) at_once = Climb(trace_, request_).plan_at_once(budget);
    note_others();
    climb(budget);
    if (search_.is_stopped() && at_once) proposal_.schedules.push_back(std::move(*at_once));
    if (best_) add(*best_);
    add_fastest_other(budget);
    if (proposal_.schedules.empty() && smallest_) add(*smallest_);
    proposal_.truncated = search_.is_stopped() || is_cut_short_;
    return std::move(proposal_);
  }

  // What there is to say when there is no time for the climb.
  [[nodiscard]] std::optional<Schedule> plan_at_once(Bytes budget) {
    const std::unique_ptr<Retention> plan = start(budget);
    if (!plan) return std::nullopt;
    return tide::write_schedule(*plan, request_.runs);
  }

 private:
  // Another planner's answer.
  struct Other {
    Schedule schedule;
    StepFigures figures;
  };
  // A plan, and the budget that it was made for.
  struct Rung {
    Bytes budget = 0;
    std::unique_ptr<Retention> plan;
  };

  [[nodiscard]] std::int64_t work_for(std::int64_t each) const {
    return each * thoroughness_ * graph_.end();
  }

  void add(const Retention& plan) {
    proposal_.schedules.push_back(tide::write_schedule(plan, request_.runs));
  }

  void note_others() {
    PlanRequest any_budget = request_;
    any_budget.budget_bytes.reset();
    for (const Planner* planner : planners()) {
      if (planner == &tide_planner()) continue;
      for (Schedule& schedule : planner->plan(trace_, any_budget).schedules) {
        if (search_.is_stopped()) return;
        StepFigures figures = simulate(trace_, schedule, request_.simulation).figures;
        others_.push_back({.schedule = std::move(schedule), .figures = std::move(figures)});
      }
    }
  }

  // The fastest within so many bytes of that peak, the smaller of two.
  [[nodiscard]] Other* fastest_other(Bytes budget, Limit limit) {
    Other* fastest = nullptr;
    const auto order = [&](const Other& other) {
      return std::pair(other.figures.step_seconds.value_or(0), *peak_bytes(other.figures, limit));
    };
    for (Other& other : others_) {
      const std::optional<Bytes> peak = peak_bytes(other.figures, limit);
      if (!peak || *peak > budget) continue;
      if (other.figures.host_peak_bytes > request_.host_budget_bytes) continue;
      if (fastest == nullptr || order(other) < order(*fastest)) fastest = &other;
    }
    return fastest;
  }

  void add_fastest_other(Bytes budget) {
    Other* other = fastest_other(budget, request_.limit);
    if (other != nullptr) proposal_.schedules.push_back(std::move(other->schedule));
  }

  // True: there is nothing faster.
  bool add_offloading() {
    if (request_.host_budget_bytes == 0) return false;
    tide::OffloadPlans plans(graph_, request_, budget_ladder(trace_, offload_rungs));
    for (Schedule& schedule : plans.plan()) proposal_.schedules.push_back(std::move(schedule));
    is_cut_short_ = plans.is_stopped();
    return plans.is_optimal();
  }

  // As a plan of ours, if that may be faster than the best so far.
  void start_from_other(Bytes budget) {
    const Other* other = fastest_other(budget, Limit::live);
    if (other == nullptr || search_.is_stopped()) return;
    std::unique_ptr<Retention> plan = search_.from_schedule(other->schedule);
    if (plan && plan->peak() <= budget) keep_better(best_, std::move(plan));
  }

  static void keep_better(std::unique_ptr<Retention>& best, std::unique_ptr<Retention> plan) {
    if (!plan) return;
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
    const bool fits = search_.fit(*plan, budget, work_for(fit_work_per_operator));
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
    const bool is_thorough = thoroughness_ > 1;
    for (const double share : {1.0, 0.84, 0.65, 0.5}) {
      // Of four that are much alike the first and the third say most.
      if (!is_thorough && (share == 0.84 || share == 0.5)) continue;
      const auto free_bytes = static_cast<double>(budget - cut_->fixed_bytes());
      if (!cut_->choose(cut_->fixed_bytes() + static_cast<Bytes>(share * free_bytes))) break;
      if (start_from_cut(budget, Search::Repeated::held, best)) break;
      // Making everything again for each use takes room and time that grow with the square.
      if (is_thorough || (share < 1 && graph_.end() <= most_operators_to_repeat_for_each_use)) {
        start_from_cut(budget, Search::Repeated::dropped, best);
      }
      if (search_.is_stopped()) break;
    }
    return best;
  }

  // The lowest rungs need more: whatever can be pressed into the budget.
  [[nodiscard]] std::unique_ptr<Retention> reach(Bytes budget) {
    std::unique_ptr<Retention> best = start(budget);
    if (best || search_.is_stopped()) return best;
    auto plan = std::make_unique<Retention>(everything_);
    const bool fits = search_.fit(*plan, budget, work_for(last_fit_work_per_operator));
    note_smallest(*plan);
    if (fits) return plan;
    for (Other& other : others_) {
      if (other.figures.live_peak_bytes > budget) continue;
      if (auto ours = search_.from_schedule(other.schedule)) {
        if (ours->peak() <= budget) return ours;
      }
    }
    return nullptr;
  }

  // Plans for the lowest rung that can be reached and for less, each at the peak that it has,
  // ascending. They do not depend on the budget that was asked for.
  [[nodiscard]] std::vector<Rung> lowest_rungs() {
    const int halvings = thoroughness_ > 1 ? 4 : 2;
    std::vector<Rung> lowest;
    const auto try_to_reach = [&](Bytes budget) {
      std::unique_ptr<Retention> plan = reach(budget);
      if (!plan) return false;
      const Bytes peak = plan->peak();
      lowest.insert(lowest.begin(), {peak, std::move(plan)});
      return true;
    };
    const Bytes floor = lower_bound_on_peak(trace_).bytes;
    if (try_to_reach(floor)) return lowest;
    Bytes below = floor;
    for (const Bytes budget : rungs_) {
      if (search_.is_stopped()) return lowest;
      if (try_to_reach(budget)) break;
      below = budget;
    }
    for (int halving = 0; halving < halvings && !lowest.empty(); ++halving) {
      const Bytes middle = below + (lowest.front().budget - below) / 2;
      if (search_.is_stopped() || middle <= below) break;
      if (!try_to_reach(middle)) below = middle;
    }
    return lowest;
  }

  // One rung more than the budget holds: its plan may need no more than that either.
  void climb(Bytes budget) {
    Bytes reached = 0;
    for (Rung& rung : lowest_rungs()) {
      if (rung.budget > budget) return;
      reached = rung.budget;
      keep_better(best_, std::move(rung.plan));
      pass(reached, landing_work_per_operator);
    }
    std::unique_ptr<Retention> within;
    for (std::size_t number = 0; number < rungs_.size() && best_; ++number) {
      if (search_.is_stopped()) break;
      if (rungs_[number] <= reached) continue;
      if (rungs_[number] > budget) within = std::make_unique<Retention>(*best_);
      const bool is_landing = (rungs_.size() - number) % rungs_per_landing == 1;
      if (is_landing) keep_better(best_, start(rungs_[number]));
      pass(rungs_[number], is_landing ? landing_work_per_operator : work_per_operator);
      if (within) break;
    }
    if (within && best_->peak() > budget) best_ = std::move(within);
  }

  void pass(Bytes budget, std::int64_t work) {
    start_from_other(budget);
    search_.fill(*best_, budget);
    search_.improve(*best_, budget, request_.effort * work_for(work));
    // What the allocator makes of a plan is only known afterwards: every rung is a candidate.
    if (request_.limit != Limit::live) add(*best_);
  }

  const StepTrace& trace_;
  const PlanRequest& request_;
  StepGraph graph_;
  Retention everything_;
  Search search_;
  std::vector<Bytes> rungs_;
  std::int64_t thoroughness_;
  std::optional<ResidentCut> cut_;
  std::vector<Other> others_;
  std::unique_ptr<Retention> best_;
  std::unique_ptr<Retention> smallest_;
  Proposal proposal_;
  bool is_cut_short_ = false;
};

// Block-level plans are other planners' business; the fastest of theirs is the answer.
Proposal best_of_others(const StepTrace& trace, const PlanRequest& request) {
  Proposal all;
  for (const Planner* planner : planners()) {
    if (planner == &tide_planner() || planner->granularity() == Granularity::op) continue;
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
    return "single operators, kept, recomputed or offloaded, by minimum cuts and local search";
  }
  [[nodiscard]] Granularity granularity() const override { return Granularity::block; }
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
