// Capuchin's choice of what to make again (Peng et al., Capuchin: Tensor-based GPU Memory
// Management for Deep Learning, ASPLOS 2020, section 4.4): as long as the step needs too much, drop
// the value with the most memory saved per second of recomputation (MSPS) between its last use in
// forward and its first in backward; what depends on a dropped value becomes dearer by the dropped
// value's own time. The choice of what to swap, which needs a measured overlap, is left out.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "budget_ladder.hpp"
#include "recompute_once.hpp"
#include "strategies.hpp"
#include "tide/at.hpp"
#include "tide/retention.hpp"

namespace tidemark {

namespace {

using tide::at;
using tide::Position;
using tide::Presence;
using tide::Retention;
using tide::ValueId;

constexpr int msps_rungs = 40;

class MemorySavedPerSecond {
 public:
  MemorySavedPerSecond(const StepTrace& trace, const PlanRequest& request)
      : trace_(trace),
        request_(request),
        once_(trace, request),
        plan_(once_.graph()),
        is_kept_(trace.storages.size(), 1),
        again_ns_(trace.storages.size(), 0) {
    for (ValueId v = 0; v < once_.graph().value_count(); ++v) {
      if (!once_.is_made_in_forward(v) || !once_.may_be_dropped(v)) continue;
      // What backward does not need is not kept for it.
      is_kept_[at(v)] = once_.is_needed_in_backward(v) ? 1 : 0;
      if (is_kept_[at(v)] != 0) candidates_.push_back(v);
    }
  }

  [[nodiscard]] Proposal plan() {
    Proposal proposal;
    std::vector<Bytes> budgets = budget_ladder(trace_, msps_rungs);
    while (!budgets.empty()) {
      if (request_.is_stopped()) {
        proposal.truncated = true;
        break;
      }
      if (plan_.peak() <= budgets.back()) {
        proposal.schedules.push_back(once_.schedule(is_kept_));
        while (!budgets.empty() && plan_.peak() <= budgets.back()) budgets.pop_back();
      } else if (!drop_best()) {
        break;
      }
    }
    return proposal;
  }

 private:
  // The time to make each value again, with what is not kept either.
  void price() {
    for (Position p = 0; p < once_.backward(); ++p) {
      for (const ValueId v : once_.graph().at(p).creates) {
        again_ns_[at(v)] = time_of(p);
        for (const Position writer : once_.graph().value(v).writers) {
          again_ns_[at(v)] += static_cast<double>(once_.graph().at(writer).nanoseconds);
        }
      }
    }
  }

  [[nodiscard]] double time_of(Position p) const {
    auto time = static_cast<double>(once_.graph().at(p).nanoseconds);
    for (const ValueId v : once_.graph().at(p).operands) {
      if (is_kept_[at(v)] == 0) time += again_ns_[at(v)];
    }
    return time;
  }

  // The most saved per second among those that are there where the step needs most.
  [[nodiscard]] bool drop_best() {
    price();
    const Position peak = plan_.peak_position();
    std::size_t best = candidates_.size();
    double most = -1;
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      const ValueId v = candidates_[c];
      const std::optional<std::size_t> gap = gap_over(v, peak);
      if (!gap) continue;
      const double saved =
          static_cast<double>(once_.graph().value(v).bytes) / std::max(again_ns_[at(v)], 1.0);
      if (saved <= most) continue;
      most = saved;
      best = c;
    }
    if (best == candidates_.size()) return false;
    drop(candidates_[best]);
    candidates_.erase(candidates_.begin() + static_cast<std::ptrdiff_t>(best));
    return true;
  }

  // The presence before backward from which the value is held over p.
  [[nodiscard]] std::optional<std::size_t> gap_over(ValueId v, Position p) const {
    const std::vector<Presence>& all = plan_.presences(v);
    for (std::size_t i = 0; i + 1 < all.size(); ++i) {
      if (all[i + 1].at < once_.backward()) continue;
      const bool is_over = all[i].is_held && all[i].at <= p && p < all[i + 1].at;
      if (is_over) return i;
      break;
    }
    return std::nullopt;
  }

  void drop(ValueId v) {
    is_kept_[at(v)] = 0;
    const std::vector<Presence>& all = plan_.presences(v);
    std::size_t i = 0;
    while (all[i + 1].at < once_.backward()) ++i;
    const Retention::Mark mark = plan_.mark();
    plan_.set_held(v, i, i + 1, false);
    // Never undone for a value that may be dropped.
    if (!plan_.settle(true)) plan_.undo(mark);
    plan_.forget();
  }

  const StepTrace& trace_;
  const PlanRequest& request_;
  RecomputeOnce once_;
  Retention plan_;                   // follows the peak
  std::vector<char> is_kept_;        // by value
  std::vector<double> again_ns_;     // by value: to make it again; nanoseconds
  std::vector<ValueId> candidates_;  // kept for backward so far
};

class Msps final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "msps"; }
  [[nodiscard]] std::string_view description() const override {
    return "drops what saves the most memory per second of recomputation (Capuchin)";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    return MemorySavedPerSecond(trace, request).plan();
  }
};

}  // namespace

const Planner& msps_planner() {
  static const Msps planner;
  return planner;
}

}  // namespace tidemark
