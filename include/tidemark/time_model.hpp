// What an operator would take on a device that it was not measured on: its floating-point
// operations and bytes, at rates that a calibration measured or a data sheet states. Wherever such
// a time is shown, it is called modelled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/gpu_profile.hpp"
#include "tidemark/trace.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// What limits an operator; `memory` is everything that mostly reads and writes.
enum class Work : std::uint8_t { matmul, convolution, attention, memory };
inline constexpr std::size_t work_count = 4;

[[nodiscard]] std::string_view name(Work work);  // "matmul", "convolution", ...

// An achieved rate of one call of that size: floating-point operations, or bytes for `memory`.
struct RatePoint {
  double amount = 0;  // in one call
  double per_second = 0;
  bool operator==(const RatePoint&) const = default;
};

// By ascending amount. Between two points the rate changes with the logarithm of the amount; beyond
// the ends that of the nearest point holds.
struct RateCurve {
  Work work = Work::memory;
  ScalarType dtype = ScalarType::float32;
  std::vector<RatePoint> points;
  bool operator==(const RateCurve&) const = default;
};

// What a machine achieves; machine.json.
struct MachineRates {
  static constexpr std::int32_t schema_version = 1;

  std::string name;  // of the device, as its driver says it
  DeviceKind kind = DeviceKind::unknown;
  // From one operator's begin to the next one's where the kernel takes less: no operator is faster.
  double launch_seconds = 0;
  std::vector<RateCurve> curves;
  std::optional<double> copy_bytes_per_second;  // within the device
  std::optional<TransferRates> transfer_rates;
  std::optional<TransferRates> transfer_rates_together;  // both directions at once
  bool operator==(const MachineRates&) const = default;
};

// Shares of the data sheet's rates that real kernels are known to reach.
[[nodiscard]] MachineRates rates_of(const GpuProfile& profile);

// The rate of a call; the curve of another element type or kind of work serves where there is none
// of its own. nullopt: no curve at all.
[[nodiscard]] std::optional<double> rate_for(const MachineRates& rates, Work work, ScalarType dtype,
                                             double amount);

// One call's work, from the sizes and types of its tensors.
struct OpWork {
  Work work = Work::memory;
  ScalarType dtype = ScalarType::float32;
  double operations = 0;  // floating-point, a multiplication and an addition being two
  double bytes = 0;       // read and written
  bool operator==(const OpWork&) const = default;
};
[[nodiscard]] OpWork work_of(const StepTrace& trace, const Op& op);

// The longest of computing, reading and writing, and launching.
[[nodiscard]] Nanoseconds modelled_duration(const StepTrace& trace, const Op& op,
                                            const MachineRates& rates);

// The same step with every duration and bandwidth as those rates give them.
[[nodiscard]] StepTrace with_modelled_times(StepTrace trace, const MachineRates& rates);

}  // namespace tidemark
