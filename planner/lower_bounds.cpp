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

// Bytes per second in each direction, the fastest kind of host memory.
struct HostRates {
  double to_host = 0;
  double to_device = 0;
};

// Of the faster kind of host memory, whichever a planner takes: the bound is every schedule's.
// Absent: the trace does not say how fast copies are.
std::optional<HostRates> host_rates(const StepTrace& trace) {
  if (const auto& rates = trace.device.transfer_rates) {
    return HostRates{.to_host = std::max(rates->pinned_to_host, rates->pageable_to_host),
                     .to_device = std::max(rates->pinned_to_device, rates->pageable_to_device)};
  }
  const std::optional<double> rate = trace.device.copy_bytes_per_second;
  if (!rate) return std::nullopt;
  return HostRates{.to_host = *rate, .to_device = *rate};
}

// How long a step takes, and what of it its operators take that run once.
struct StepTimes {
  double all = 0;
  double once = 0;
};

// A moment of the step, and what can lie on the host then.
class Moment {
 public:
  Moment(const tide::StepGraph& graph, tide::Position position)
      : cut(graph, position, tide::Order::any),
        before_(cut.seconds_before()),
        after_(cut.seconds_after()) {}

  // Bytes that went there before the moment and come back after it. Two queues copy beside compute,
  // and compute may itself, which makes the step longer.
  [[nodiscard]] Bytes host_bytes(const std::optional<HostRates>& rates, Bytes host_budget,
                                 const StepTimes& step) const {
    if (host_budget == 0 || !rates) return host_budget;
    constexpr double side_queues = 2;
    const double copied_by_compute = std::max(0.0, step.all - step.once);
    const auto moved = [&](double seconds, double rate) {
      return (side_queues * std::max(0.0, seconds) + copied_by_compute) * rate;
    };
    // In all, to the host and back; and each before or after the moment, which has its own place.
    const double most = side_queues * step.all + copied_by_compute;
    const double bytes = std::min({moved(step.all - after_, rates->to_host),
                                   moved(step.all - before_, rates->to_device),
                                   most / (1 / rates->to_host + 1 / rates->to_device)});
    return bytes < static_cast<double>(host_budget) ? static_cast<Bytes>(bytes) + 1 : host_budget;
  }

  tide::ResidentCut cut;

 private:
  double before_;
  double after_;
};

// Nanoseconds that no schedule with so many bytes on the device can do without running operators
// again: at each moment what does not fit, there and on the host, has to be made again. The moments
// are those with the highest levels when everything is held.
class RepeatedTime {
 public:
  RepeatedTime(const tide::StepGraph& graph, const PlanRequest& request)
      : rates_(host_rates(graph.trace())), host_budget_(request.host_budget_bytes) {
    for (const tide::Position moment : tide::crowded_moments(graph, *request.budget_bytes)) {
      moments_.emplace_back(graph, moment);
    }
  }

  // The most crowded moment in full; the others only where its price promises about as much.
  [[nodiscard]] double at_least(Bytes budget, const StepTimes& step) {
    constexpr double promising = 0.9;
    double most = 0;
    double price = 0;
    for (Moment& moment : moments_) {
      const Bytes room = budget + moment.host_bytes(rates_, host_budget_, step);
      if (price > 0 && moment.cut.bound_at(price, room) < promising * most) continue;
      const double bound = moment.cut.bound(room).value_or(0);
      if (bound <= most) continue;
      most = bound;
      price = moment.cut.fitting_price();
    }
    return most;
  }

 private:
  std::optional<HostRates> rates_;
  Bytes host_budget_;
  std::deque<Moment> moments_;
};

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
  RepeatedTime repeated(graph, request);
  const auto bound = [&](double step_seconds) {
    const StepTimes step{.all = step_seconds, .once = once};
    return once + repeated.at_least(*request.budget_bytes, step) * 1e-9;
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
