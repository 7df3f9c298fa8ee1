// The oracle for tiny steps with offload: the least time of any schedule that keeps a budget on the
// device and one on the host, over all states of values, queues and clocks. For steps that
// overwrite nothing and draw no random numbers; one queue for each direction.
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

class ExhaustiveOffload {
 public:
  enum class Order : std::uint8_t { recorded, any };

  ExhaustiveOffload(const StepTrace& trace, Order order, double bytes_per_nanosecond)
      : trace_(trace),
        order_(order),
        rate_(bytes_per_nanosecond),
        is_static_(static_storages(trace)) {
    for (std::size_t s = 0; s < trace.storages.size(); ++s) {
      if (is_static_[s]) static_bytes_ += trace.storages[s].bytes;
    }
  }

  // Nanoseconds; absent: nothing keeps the budgets, or there are more than `limit` states.
  [[nodiscard]] std::optional<double> least_time(Bytes budget, Bytes host_budget,
                                                 std::size_t limit = 60'000) {
    budget_ = budget;
    host_budget_ = host_budget;
    known_.clear();
    queue_ = {};
    seen_ = 0;
    State start{.places = std::vector<Where>(trace_.storages.size()),
                .has_run = std::vector<char>(trace_.ops.size(), 0)};
    for (std::size_t s = 0; s < is_static_.size(); ++s)
      start.places[s].is_on_device = is_static_[s];
    reach(start, Clocks{.ends = std::vector<double>(trace_.storages.size(), 0)});
    while (!queue_.empty() && seen_ < limit) {
      const Entry entry = queue_.top();
      queue_.pop();
      if (!is_best(entry)) continue;
      if (is_done(entry.state)) return -entry.negative_time;
      for (std::size_t o = 0; o < trace_.ops.size(); ++o) run(entry, o);
      for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
        if (is_static_[s]) continue;
        drop(entry, s, &Where::is_on_device);
        offload(entry, s);
        fetch(entry, s);
        drop(entry, s, &Where::is_on_host);
      }
    }
    return std::nullopt;
  }

 private:
  struct Where {
    bool is_on_device = false;
    bool is_on_host = false;
    auto operator<=>(const Where&) const = default;
  };
  struct State {
    std::vector<Where> places;  // by storage
    std::vector<char> has_run;  // by operator
    auto operator<=>(const State&) const = default;
  };
  struct Clocks {
    double compute = 0;
    double to_host = 0;
    double to_device = 0;
    std::vector<double> ends;  // by storage: of its last copy
    bool operator==(const Clocks&) const = default;
    // The next copy of a queue; it needs what compute has made so far.
    void copy(std::size_t s, double Clocks::*queue, double duration) {
      this->*queue = std::max(this->*queue, compute) + duration;
      ends[s] = this->*queue;
    }
    [[nodiscard]] bool is_no_later(const Clocks& other) const {
      if (compute > other.compute || to_host > other.to_host || to_device > other.to_device) {
        return false;
      }
      for (std::size_t s = 0; s < ends.size(); ++s) {
        // What is over for both makes no difference.
        if (ends[s] > std::max(other.ends[s], compute)) return false;
      }
      return true;
    }
  };
  struct Entry {
    double negative_time = 0;  // of the latest clock
    State state;
    Clocks clocks;
    bool operator<(const Entry& other) const { return negative_time < other.negative_time; }
  };

  void reach(const State& state, const Clocks& clocks) {
    std::vector<Clocks>& all = known_[state];
    for (const Clocks& known : all) {
      if (known.is_no_later(clocks)) return;
    }
    std::erase_if(all, [&](const Clocks& known) { return clocks.is_no_later(known); });
    all.push_back(clocks);
    ++seen_;
    const double time = std::max({clocks.compute, clocks.to_host, clocks.to_device});
    queue_.push({.negative_time = -time, .state = state, .clocks = clocks});
  }

  [[nodiscard]] bool is_best(const Entry& entry) const {
    const std::vector<Clocks>& all = known_.at(entry.state);
    return std::find(all.begin(), all.end(), entry.clocks) != all.end();
  }

  [[nodiscard]] bool is_done(const State& state) const {
    return std::find(state.has_run.begin(), state.has_run.end(), 0) == state.has_run.end() &&
           std::all_of(trace_.keep.begin(), trace_.keep.end(),
                       [&](StorageId id) { return state.places[index(id)].is_on_device; });
  }

  [[nodiscard]] Bytes level(const State& state, bool Where::*place) const {
    Bytes sum = place == &Where::is_on_device ? static_bytes_ : 0;
    for (std::size_t s = 0; s < state.places.size(); ++s) {
      if (state.places[s].*place && !is_static_[s]) sum += trace_.storages[s].bytes;
    }
    return sum;
  }

  void run(const Entry& from, std::size_t o) {
    const Op& op = trace_.ops[o];
    if (from.state.has_run[o] == 0 && order_ == Order::recorded) {
      for (std::size_t earlier = 0; earlier < o; ++earlier) {
        if (from.state.has_run[earlier] == 0) return;
      }
    }
    Entry next = from;
    for (const StorageId id : op.reads) {
      if (!from.state.places[index(id)].is_on_device) return;
      next.clocks.compute = std::max(next.clocks.compute, arrival(from, index(id)));
    }
    Bytes bytes = level(from.state, &Where::is_on_device) + op.workspace_bytes;
    for (const StorageId id : op.creates) {
      bytes += trace_.storages[index(id)].bytes;
      if (next.state.places[index(id)].is_on_device) continue;
      next.state.places[index(id)].is_on_device = true;
      // A copy of an older instance may still be under way to the host: nothing waits for it here.
      if (!next.state.places[index(id)].is_on_host) next.clocks.ends[index(id)] = 0;
    }
    if (bytes > budget_) return;
    next.state.has_run[o] = 1;
    next.clocks.compute += static_cast<double>(op.duration.count());
    reach(next.state, next.clocks);
  }

  // When what is on the device may be read: a copy under way to the host does not keep it from
  // that.
  [[nodiscard]] static double arrival(const Entry& from, std::size_t s) {
    return from.state.places[s].is_on_host ? 0 : from.clocks.ends[s];
  }

  // One place less, once the last copy is over.
  void drop(const Entry& from, std::size_t s, bool Where::*place) {
    if (!(from.state.places[s].*place)) return;
    Entry next = from;
    next.state.places[s].*place = false;
    next.clocks.compute = std::max(next.clocks.compute, from.clocks.ends[s]);
    reach(next.state, next.clocks);
  }

  [[nodiscard]] double duration_of_copy(std::size_t s) const {
    return static_cast<double>(trace_.storages[s].bytes) / rate_;
  }

  void offload(const Entry& from, std::size_t s) {
    const Where where = from.state.places[s];
    if (!where.is_on_device || where.is_on_host || from.clocks.ends[s] > from.clocks.compute)
      return;
    if (level(from.state, &Where::is_on_host) + trace_.storages[s].bytes > host_budget_) return;
    Entry next = from;
    next.state.places[s].is_on_host = true;
    next.clocks.copy(s, &Clocks::to_host, duration_of_copy(s));
    reach(next.state, next.clocks);
  }

  // The host's copy goes as soon as the device has it.
  void fetch(const Entry& from, std::size_t s) {
    const Where where = from.state.places[s];
    if (where.is_on_device || !where.is_on_host) return;
    if (level(from.state, &Where::is_on_device) + trace_.storages[s].bytes > budget_) return;
    Entry next = from;
    next.state.places[s] = {.is_on_device = true, .is_on_host = false};
    next.clocks.copy(s, &Clocks::to_device, duration_of_copy(s));
    reach(next.state, next.clocks);
  }

  const StepTrace& trace_;
  Order order_;
  double rate_;
  std::vector<bool> is_static_;
  Bytes static_bytes_ = 0;
  Bytes budget_ = 0;
  Bytes host_budget_ = 0;
  std::size_t seen_ = 0;
  std::map<State, std::vector<Clocks>> known_;
  std::priority_queue<Entry> queue_;
};

}  // namespace tidemark::test
