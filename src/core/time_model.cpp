#include "tidemark/time_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace tidemark {

namespace {

// What large kernels reach of a data sheet's rate, and what eager PyTorch needs from one operator
// to the next. A calibration on the machine itself replaces all of these.
constexpr double matmul_share = 0.7;
constexpr double convolution_share = 0.55;
constexpr double attention_share = 0.45;
constexpr double memory_share = 0.85;
constexpr double eager_launch_seconds = 5e-6;

using Curves = std::vector<const RateCurve*>;

// Of every width, narrowest first.
Curves curves_of(const MachineRates& rates, Work work, ScalarType dtype) {
  Curves found;
  for (const RateCurve& curve : rates.curves) {
    if (curve.work == work && curve.dtype == dtype && !curve.points.empty()) {
      found.push_back(&curve);
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const RateCurve* a, const RateCurve* b) { return a->width < b->width; });
  return found;
}

// The tensor units treat both half types alike.
ScalarType twin(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::float16:
      return ScalarType::bfloat16;
    case ScalarType::bfloat16:
      return ScalarType::float16;
    default:
      return dtype;
  }
}

// The kind itself, then those whose rates serve in its place.
std::vector<Work> serving_kinds(Work work) {
  switch (work) {
    case Work::convolution_backward:
      return {work, Work::convolution, Work::matmul};
    case Work::pointwise:
      return {work, Work::convolution, Work::matmul};
    case Work::pointwise_backward:
      return {work, Work::convolution_backward, Work::convolution, Work::matmul};
    case Work::attention_backward:
      return {work, Work::attention, Work::matmul};
    case Work::convolution:
    case Work::attention:
      return {work, Work::matmul};
    default:
      return {work};
  }
}

Curves serving_curves(const MachineRates& rates, Work work, ScalarType dtype) {
  for (const Work kind : serving_kinds(work)) {
    for (const ScalarType type : {dtype, twin(dtype), ScalarType::float32}) {
      Curves curves = curves_of(rates, kind, type);
      if (!curves.empty()) return curves;
    }
  }
  return {};
}

struct Known {
  double at = 0;
  double value = 0;
};

// On the straight line through both points where both axes are logarithms.
double between(const Known& low, const Known& high, double at) {
  if (!(low.at > 0) || !(high.at > low.at)) return high.value;
  const double share = std::log(at / low.at) / std::log(high.at / low.at);
  return low.value * std::pow(high.value / low.value, share);
}

double rate_on(const RateCurve& curve, double amount) {
  const std::vector<RatePoint>& points = curve.points;
  const auto above = std::find_if(points.begin(), points.end(),
                                  [&](const RatePoint& p) { return p.amount >= amount; });
  if (above == points.begin()) return points.front().per_second;
  if (above == points.end()) return points.back().per_second;
  const RatePoint& low = *(above - 1);
  return between({low.amount, low.per_second}, {above->amount, above->per_second}, amount);
}

double rate_on(const Curves& curves, double amount, double width) {
  const auto above = std::find_if(curves.begin(), curves.end(),
                                  [&](const RateCurve* c) { return c->width >= width; });
  if (above == curves.begin()) return rate_on(*curves.front(), amount);
  if (above == curves.end()) return rate_on(*curves.back(), amount);
  const RateCurve& low = **(above - 1);
  const RateCurve& high = **above;
  return between({low.width, rate_on(low, amount)}, {high.width, rate_on(high, amount)}, width);
}

// Of the largest call of each curve: small ones may find their operands in a cache. 0: none was
// measured.
double best_rate(const MachineRates& rates, Work work, ScalarType dtype) {
  double best = 0;
  for (const RateCurve* curve : curves_of(rates, work, dtype)) {
    best = std::max(best, curve->points.back().per_second);
  }
  return best;
}

double seconds_for(const MachineRates& rates, const WorkPart& part, ScalarType dtype) {
  if (part.amount <= 0) return 0;
  const std::optional<double> rate = rate_for(rates, part, dtype);
  return rate && *rate > 0 ? part.amount / *rate : 0;
}

}  // namespace

std::string_view name(Work work) {
  static constexpr std::array<std::string_view, work_count> names{"matmul",
                                                                  "convolution",
                                                                  "convolution_backward",
                                                                  "pointwise",
                                                                  "pointwise_backward",
                                                                  "attention",
                                                                  "attention_backward",
                                                                  "memory",
                                                                  "random",
                                                                  "exponential",
                                                                  "tanh",
                                                                  "indexed",
                                                                  "batch_norm",
                                                                  "layer_norm",
                                                                  "pooling"};
  return names.at(static_cast<std::size_t>(work));
}

MachineRates rates_of(const GpuProfile& profile) {
  MachineRates rates;
  rates.name = profile.device_name;
  rates.kind = DeviceKind::phantom;
  rates.launch_seconds = eager_launch_seconds;
  const auto add = [&](Work work, ScalarType dtype, double per_second) {
    if (per_second <= 0) return;
    rates.curves.push_back({.work = work, .dtype = dtype, .width = 0, .points = {{1, per_second}}});
  };
  const DenseRates& dense = profile.dense;
  // PyTorch multiplies matrices in full fp32 unless told otherwise, and convolves in TF32.
  add(Work::matmul, ScalarType::float64, matmul_share * dense.fp64);
  add(Work::matmul, ScalarType::float32, matmul_share * dense.fp32);
  add(Work::matmul, ScalarType::float16, matmul_share * dense.fp16);
  add(Work::matmul, ScalarType::float8_e4m3fn, matmul_share * dense.fp8);
  add(Work::matmul, ScalarType::float8_e5m2, matmul_share * dense.fp8);
  add(Work::convolution, ScalarType::float64, convolution_share * dense.fp64);
  add(Work::convolution, ScalarType::float32,
      convolution_share * (dense.tf32 > 0 ? dense.tf32 : dense.fp32));
  add(Work::convolution, ScalarType::float16, convolution_share * dense.fp16);
  add(Work::attention, ScalarType::float32, attention_share * dense.fp32);
  add(Work::attention, ScalarType::float16, attention_share * dense.fp16);
  add(Work::memory, ScalarType::float32, memory_share * profile.memory_bytes_per_second);
  // A copy within the device reads and writes.
  rates.copy_bytes_per_second = memory_share * profile.memory_bytes_per_second / 2;
  rates.transfer_rates = TransferRates{.pinned_to_device = profile.pinned.to_device,
                                       .pinned_to_host = profile.pinned.from_device,
                                       .pageable_to_device = profile.pageable.to_device,
                                       .pageable_to_host = profile.pageable.from_device};
  return rates;
}

GpuProfile with_rates(GpuProfile card, const MachineRates& achieved) {
  const auto best = [&](Work work, ScalarType dtype) { return best_rate(achieved, work, dtype); };
  DenseRates& dense = card.dense;
  dense.fp64 = best(Work::matmul, ScalarType::float64) / matmul_share;
  dense.fp32 = best(Work::matmul, ScalarType::float32) / matmul_share;
  dense.tf32 = best(Work::convolution, ScalarType::float32) / convolution_share;
  dense.fp16 =
      std::max(best(Work::matmul, ScalarType::float16), best(Work::matmul, ScalarType::bfloat16)) /
      matmul_share;
  // Not measured: where there are such units, data sheets give them twice the rate of fp16.
  dense.fp8 = card.compute_capability >= ComputeCapability{8, 9} ? 2 * dense.fp16 : 0;
  card.memory_bytes_per_second = best(Work::memory, ScalarType::float32) / memory_share;
  if (const auto& transfers = achieved.transfer_rates) {
    card.pinned = {.to_device = transfers->pinned_to_device,
                   .from_device = transfers->pinned_to_host};
    card.pageable = {.to_device = transfers->pageable_to_device,
                     .from_device = transfers->pageable_to_host};
  }
  return card;
}

std::optional<double> rate_for(const MachineRates& rates, const WorkPart& part, ScalarType dtype) {
  const Curves curves = serving_curves(rates, part.work, dtype);
  if (curves.empty()) return std::nullopt;
  return rate_on(curves, part.amount, part.width);
}

Nanoseconds modelled_duration(const StepTrace& trace, const Op& op, const MachineRates& rates) {
  const OpWork work = work_of(trace, op);
  double computing = 0;
  for (const WorkPart& part : work.parts) computing += seconds_for(rates, part, work.dtype);
  const double moving =
      seconds_for(rates, {.work = Work::memory, .amount = work.bytes}, work.dtype);
  const double longest = std::max({rates.launch_seconds, computing, moving});
  return Nanoseconds(std::llround(1e9 * longest));
}

StepTrace with_modelled_times(StepTrace trace, const MachineRates& rates) {
  for (Op& op : trace.ops) op.duration = modelled_duration(trace, op, rates);
  trace.device.copy_bytes_per_second = rates.copy_bytes_per_second;
  trace.device.transfer_rates = rates.transfer_rates;
  return trace;
}

}  // namespace tidemark
