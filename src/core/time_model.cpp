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

const RateCurve* find_curve(const MachineRates& rates, Work work, ScalarType dtype) {
  const auto found =
      std::find_if(rates.curves.begin(), rates.curves.end(), [&](const RateCurve& curve) {
        return curve.work == work && curve.dtype == dtype && !curve.points.empty();
      });
  return found == rates.curves.end() ? nullptr : &*found;
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

const RateCurve* serving_curve(const MachineRates& rates, Work work, ScalarType dtype) {
  for (const Work kind : {work, work == Work::memory ? Work::memory : Work::matmul}) {
    for (const ScalarType type : {dtype, twin(dtype), ScalarType::float32}) {
      if (const RateCurve* curve = find_curve(rates, kind, type)) return curve;
    }
  }
  return nullptr;
}

double rate_on(const RateCurve& curve, double amount) {
  const std::vector<RatePoint>& points = curve.points;
  const auto above = std::find_if(points.begin(), points.end(),
                                  [&](const RatePoint& p) { return p.amount >= amount; });
  if (above == points.begin()) return points.front().per_second;
  if (above == points.end()) return points.back().per_second;
  const RatePoint& low = *(above - 1);
  const RatePoint& high = *above;
  const double share = std::log(amount / low.amount) / std::log(high.amount / low.amount);
  return low.per_second + share * (high.per_second - low.per_second);
}

double seconds_for(const MachineRates& rates, Work work, ScalarType dtype, double amount) {
  if (amount <= 0) return 0;
  const std::optional<double> rate = rate_for(rates, work, dtype, amount);
  return rate && *rate > 0 ? amount / *rate : 0;
}

}  // namespace

std::string_view name(Work work) {
  static constexpr std::array<std::string_view, work_count> names{"matmul", "convolution",
                                                                  "attention", "memory"};
  return names.at(static_cast<std::size_t>(work));
}

MachineRates rates_of(const GpuProfile& profile) {
  MachineRates rates;
  rates.name = profile.device_name;
  rates.kind = DeviceKind::phantom;
  rates.launch_seconds = eager_launch_seconds;
  const auto add = [&](Work work, ScalarType dtype, double per_second) {
    if (per_second <= 0) return;
    rates.curves.push_back({.work = work, .dtype = dtype, .points = {{1, per_second}}});
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

std::optional<double> rate_for(const MachineRates& rates, Work work, ScalarType dtype,
                               double amount) {
  const RateCurve* curve = serving_curve(rates, work, dtype);
  return curve == nullptr ? std::nullopt : std::optional(rate_on(*curve, amount));
}

Nanoseconds modelled_duration(const StepTrace& trace, const Op& op, const MachineRates& rates) {
  const OpWork work = work_of(trace, op);
  const double longest =
      std::max({rates.launch_seconds, seconds_for(rates, work.work, work.dtype, work.operations),
                seconds_for(rates, Work::memory, work.dtype, work.bytes)});
  return Nanoseconds(std::llround(1e9 * longest));
}

StepTrace with_modelled_times(StepTrace trace, const MachineRates& rates) {
  for (Op& op : trace.ops) op.duration = modelled_duration(trace, op, rates);
  trace.device.copy_bytes_per_second = rates.copy_bytes_per_second;
  trace.device.transfer_rates = rates.transfer_rates;
  return trace;
}

}  // namespace tidemark
