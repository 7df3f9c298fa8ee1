// The oracle for tiny steps: the least time of any schedule within a budget, by search over all
// states (which values are alive in which version, which operators have run).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark::test {

class ExhaustiveSearch {
 public:
  enum class Order : std::uint8_t { recorded, any };

  ExhaustiveSearch(const StepTrace& trace, Order order)
      : trace_(trace), order_(order), is_static_(static_storages(trace)) {
    for (std::size_t s = 0; s < trace.storages.size(); ++s) {
      if (is_static_[s]) static_bytes_ += trace.storages[s].bytes;
    }
  }

  // Nanoseconds; absent: no schedule keeps the budget, or there are more than `limit` states. A
  // storage has at most one instance at a time, which is no restriction where nothing is
  // overwritten.
  [[nodiscard]] std::optional<std::int64_t> least_time(Bytes budget, std::size_t limit = 20'000) {
    budget_ = budget;
    best_.clear();
    queue_ = {};
    State start{.alive = std::vector<std::uint8_t>(trace_.storages.size(), 0),
                .has_run = std::vector<char>(trace_.ops.size(), 0)};
    for (std::size_t s = 0; s < is_static_.size(); ++s) start.alive[s] = is_static_[s] ? 1 : 0;
    reach(start, 0);
    while (!queue_.empty() && best_.size() < limit) {
      const auto [negative, state] = queue_.top();
      queue_.pop();
      const std::int64_t time = -negative;
      if (best_.at(state) < time) continue;
      if (is_done(state)) return time;
      for (std::size_t o = 0; o < trace_.ops.size(); ++o) run(state, time, o);
      drop(state, time);
    }
    return std::nullopt;
  }

 private:
  struct State {
    std::vector<std::uint8_t> alive;  // by storage: 0, or 1 + its version
    std::vector<char> has_run;        // by operator
    auto operator<=>(const State&) const = default;
  };

  void reach(const State& state, std::int64_t time) {
    const auto [entry, is_new] = best_.try_emplace(state, time);
    if (!is_new && entry->second <= time) return;
    entry->second = time;
    queue_.emplace(-time, state);
  }

  [[nodiscard]] bool is_exempt(const Op& op, StorageId id) const {
    return op.flags.statistics && is_static_[index(id)];
  }

  [[nodiscard]] std::uint8_t version(StorageId id, std::size_t before_op) const {
    std::uint8_t version = 0;
    for (std::size_t o = 0; o < before_op; ++o) {
      const Op& op = trace_.ops[o];
      const bool writes = std::find(op.writes.begin(), op.writes.end(), id) != op.writes.end();
      if (writes && !is_exempt(op, id)) ++version;
    }
    return version;
  }

  [[nodiscard]] bool is_done(const State& state) const {
    if (std::find(state.has_run.begin(), state.has_run.end(), 0) != state.has_run.end()) {
      return false;
    }
    return std::all_of(trace_.keep.begin(), trace_.keep.end(), [&](StorageId id) {
      return state.alive[index(id)] == 1 + version(id, trace_.ops.size());
    });
  }

  [[nodiscard]] bool is_ordered(std::size_t o) const {
    const Op& op = trace_.ops[o];
    return op.flags.random || std::any_of(op.writes.begin(), op.writes.end(),
                                          [&](StorageId id) { return is_static_[index(id)]; });
  }

  [[nodiscard]] bool may_run(const State& state, std::size_t o) const {
    const Op& op = trace_.ops[o];
    if (state.has_run[o] != 0) {
      if (op.flags.not_recomputable || op.flags.host_sync) return false;
    } else {
      for (std::size_t earlier = 0; earlier < o; ++earlier) {
        if (state.has_run[earlier] != 0) continue;
        if (order_ == Order::recorded || (is_ordered(o) && is_ordered(earlier))) return false;
      }
      for (std::size_t later = o + 1; later < trace_.ops.size(); ++later) {
        if (state.has_run[later] != 0 && is_ordered(o) && is_ordered(later)) return false;
      }
    }
    for (const auto* ids : {&op.reads, &op.writes}) {
      for (const StorageId id : *ids) {
        const std::uint8_t alive = state.alive[index(id)];
        if (alive == 0) return false;
        if (ids == &op.writes && is_exempt(op, id)) continue;
        if (alive != 1 + version(id, o)) return false;
      }
    }
    return true;
  }

  void run(const State& state, std::int64_t time, std::size_t o) {
    if (!may_run(state, o)) return;
    const Op& op = trace_.ops[o];
    Bytes level = static_bytes_ + op.workspace_bytes;
    for (std::size_t s = 0; s < state.alive.size(); ++s) {
      if (state.alive[s] != 0 && !is_static_[s]) level += trace_.storages[s].bytes;
    }
    State next = state;
    next.has_run[o] = 1;
    for (const StorageId id : op.creates) {
      level += trace_.storages[index(id)].bytes;
      if (next.alive[index(id)] == 0) next.alive[index(id)] = 1;
    }
    for (const StorageId id : op.writes) {
      if (!is_exempt(op, id)) ++next.alive[index(id)];
    }
    if (level <= budget_) reach(next, time + op.duration.count());
  }

  void drop(const State& state, std::int64_t time) {
    for (std::size_t s = 0; s < state.alive.size(); ++s) {
      if (state.alive[s] == 0 || is_static_[s]) continue;
      State next = state;
      next.alive[s] = 0;
      reach(next, time);
    }
  }

  const StepTrace& trace_;
  Order order_;
  std::vector<bool> is_static_;
  Bytes static_bytes_ = 0;
  Bytes budget_ = 0;
  std::map<State, std::int64_t> best_;
  std::priority_queue<std::pair<std::int64_t, State>> queue_;
};

}  // namespace tidemark::test
