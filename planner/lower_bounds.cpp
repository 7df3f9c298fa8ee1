// What no schedule can do better.
#include <algorithm>
#include <cstddef>
#include <deque>
#include <optional>

#include "tide/crowded_moments.hpp"
#include "tide/resident_cut.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

namespace {

bool has_times(const StepTrace& trace) {
  return std::any_of(trace.ops.begin(), trace.ops.end(),
                     [](const Op& op) { return op.duration.count() > 0; });
}

// Nanoseconds that no schedule with so many bytes on the device can do without running operators
// again: at each moment what does not fit has to be made again. The moments are those with the
// highest levels when everything is held.
class RepeatedTime {
 public:
  RepeatedTime(const tide::StepGraph& graph, Bytes budget) {
    for (const tide::Position moment : tide::crowded_moments(graph, budget)) {
      cuts_.emplace_back(graph, moment, tide::Order::any);
    }
  }

  // The most crowded moment in full; the others only where its price promises about as much.
  [[nodiscard]] double at_least(Bytes budget) {
    constexpr double promising = 0.9;
    double most = 0;
    double price = 0;
    for (tide::ResidentCut& cut : cuts_) {
      if (price > 0 && cut.bound_at(price, budget) < promising * most) continue;
      const double bound = cut.bound(budget).value_or(0);
      if (bound <= most) continue;
      most = bound;
      price = cut.fitting_price();
    }
    return most;
  }

 private:
  std::deque<tide::ResidentCut> cuts_;
};

// Bytes that can lie on the host at one moment of a step that takes so long: they went there before
// it and come back after it, on at most three queues.
Bytes host_bytes(const StepTrace& trace, Bytes host_budget, double step_seconds) {
  const std::optional<double> bandwidth = trace.device.copy_bytes_per_second;
  if (!bandwidth) return host_budget;
  const double moved = 3 * *bandwidth * step_seconds / 2;
  return moved < static_cast<double>(host_budget) ? static_cast<Bytes>(moved) + 1 : host_budget;
}

}  // namespace

// While an operator runs, static memory, its operands, its results and its scratch are alive.
BoundPeak lower_bound_on_peak(const StepTrace& trace) {
  const tide::StepGraph graph(trace);
  BoundPeak bound{.bytes = graph.static_bytes(), .op = {}};
  for (tide::Position p = 0; p < graph.end(); ++p) {
    const tide::Operation& operation = graph.at(p);
    Bytes level = graph.static_bytes() + operation.workspace;
    for (const auto* values : {&operation.operands, &operation.creates}) {
      for (const tide::ValueId v : *values) level += graph.value(v).bytes;
    }
    if (level > bound.bytes) {
      bound = {.bytes = level, .op = make_id<OpId>(static_cast<std::size_t>(p))};
    }
  }
  return bound;
}

std::optional<double> lower_bound_seconds(const StepTrace& trace, const PlanRequest& request) {
  if (!has_times(trace)) return std::nullopt;
  const tide::StepGraph graph(trace);
  // Sums of seconds are exact to about so much, in whichever order they are added.
  constexpr double rounding = 1e-10;
  const double once = static_cast<double>(graph.total_nanoseconds()) * 1e-9 * (1 - rounding);
  if (!request.budget_bytes) return once;
  RepeatedTime repeated(graph, *request.budget_bytes);
  const auto bound = [&](double step_seconds) {
    const Bytes elsewhere = request.host_budget_bytes == 0
                                ? 0
                                : host_bytes(trace, request.host_budget_bytes, step_seconds);
    return once + repeated.at_least(*request.budget_bytes + elsewhere) * 1e-9;
  };
  // A longer step leaves more time to move values to the host: a step of `low` seconds needs more
  // than that.
  double low = once;
  double high = bound(low);
  if (request.host_budget_bytes == 0) return high;
  for (int halvings = 0; halvings < 10 && high > low; ++halvings) {
    const double middle = low + (high - low) / 2;
    (bound(middle) > middle ? low : high) = middle;
  }
  return low;
}

}  // namespace tidemark
