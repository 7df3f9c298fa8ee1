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

// The kinds of work that an operator may do; a calibration measures the rate of each. A GPU does
// all but products at its memory's speed, so its data sheet has no rates for them. A processor does
// not.
enum class Work : std::uint8_t {
  matmul,       // floating-point operations, as in the next six
  convolution,  // with a window
  convolution_backward,
  pointwise,  // convolution without one
  pointwise_backward,
  attention,
  attention_backward,
  memory,       // bytes read and written: everything else
  random,       // numbers drawn
  exponential,  // exponentials, logarithms, error functions
  tanh,
  indexed,     // elements handled one by one: masks, gathering, scattering, transposing copies
  batch_norm,  // elements, as in the next one
  layer_norm,
  pooling,  // elements of all windows
};
inline constexpr std::size_t work_count = 15;

[[nodiscard]] std::string_view name(Work work);  // "matmul", "convolution", ...

// An achieved rate of one call of that size, in the unit of its work.
struct RatePoint {
  double amount = 0;  // in one call
  double per_second = 0;
  bool operator==(const RatePoint&) const = default;
};

// By ascending amount. Between two points the logarithm of the rate changes with that of the
// amount; beyond the ends the rate of the nearest point holds.
struct RateCurve {
  Work work = Work::memory;
  ScalarType dtype = ScalarType::float32;
  // Of products: the narrowest side of the matrices, the fewest channels, the width of a head.
  // Zero: the curve serves any.
  double width = 0;
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
  std::optional<GpuProfile> card;  // what a phantom of it needs to know, where it is a GPU
  std::vector<std::string> notes;  // what could not be learned, and why
  bool operator==(const MachineRates&) const = default;
};

// Shares of the data sheet's rates that real kernels are known to reach.
[[nodiscard]] MachineRates rates_of(const GpuProfile& profile);
// The other way round: a data sheet of which rates_of() gives what the card achieved with large
// calls.
[[nodiscard]] GpuProfile with_rates(GpuProfile card, const MachineRates& achieved);

// A card and what it achieves: a calibration's rates, or those of its data sheet.
struct Gpu {
  GpuProfile profile;
  MachineRates rates;
  bool operator==(const Gpu&) const = default;
};

// So much of one kind of work.
struct WorkPart {
  Work work = Work::memory;
  double amount = 0;
  double width = 0;  // of products; see RateCurve
  bool operator==(const WorkPart&) const = default;
};

// The rate of a call. Where there is no curve of its own, that of another element type serves, a
// forward product's serves the backward one and a matrix product's any product; other work then
// goes at the memory's speed. nullopt: no curve serves.
[[nodiscard]] std::optional<double> rate_for(const MachineRates& rates, const WorkPart& part,
                                             ScalarType dtype);

// One call's work, from the sizes and types of its tensors.
struct OpWork {
  ScalarType dtype = ScalarType::float32;
  std::vector<WorkPart> parts;  // one after the other; empty: it only reads and writes
  double bytes = 0;             // read and written
  bool operator==(const OpWork&) const = default;
};
[[nodiscard]] OpWork work_of(const StepTrace& trace, const Op& op);

// The longest of the parts together, reading and writing, and launching.
[[nodiscard]] Nanoseconds modelled_duration(const StepTrace& trace, const Op& op,
                                            const MachineRates& rates);

// The same step with every duration and bandwidth as those rates give them.
[[nodiscard]] StepTrace with_modelled_times(StepTrace trace, const MachineRates& rates);

}  // namespace tidemark
