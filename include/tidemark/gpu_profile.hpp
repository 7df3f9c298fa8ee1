// What a GPU is, as far as memory and modelled time depend on it. One table of known cards
// (src/core/gpu_profiles.cpp); a user's own card comes from a file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tidemark/units.hpp"

namespace tidemark {

struct ComputeCapability {
  std::int32_t major = 0;
  std::int32_t minor = 0;
  auto operator<=>(const ComputeCapability&) const = default;
};

// What a kernel may use, per block and per multiprocessor.
struct KernelLimits {
  Bytes shared_memory_per_block = 0;
  Bytes shared_memory_per_block_optin = 0;
  Bytes shared_memory_reserved_per_block = 0;
  Bytes shared_memory_per_multiprocessor = 0;
  std::int32_t registers_per_multiprocessor = 0;
  std::int32_t threads_per_multiprocessor = 0;
  std::int32_t blocks_per_multiprocessor = 0;
  bool operator==(const KernelLimits&) const = default;
};

// Bytes per second between host and device, each direction alone.
struct CopyRates {
  double to_device = 0;
  double from_device = 0;
  bool operator==(const CopyRates&) const = default;
};

// Dense floating-point operations per second, at the clock the vendor states them for. 0: the card
// has no such units.
struct DenseRates {
  double fp64 = 0;  // the best of vector and tensor units, as cuBLAS uses them
  double fp32 = 0;
  double tf32 = 0;
  double fp16 = 0;  // and bf16
  double fp8 = 0;
  bool operator==(const DenseRates&) const = default;
};

struct GpuProfile {
  std::string name;         // "h200"
  std::string device_name;  // "NVIDIA H200", as the driver says it
  ComputeCapability compute_capability;
  Bytes total_memory = 0;  // as the CUDA runtime reports it, not as it is sold
  // Taken outside the caching allocator: context, loaded kernels, library internals.
  Bytes context_memory = 0;
  std::int32_t multiprocessors = 0;
  Bytes l2_cache = 0;
  std::int32_t memory_bus_bits = 0;
  std::int64_t clock_khz = 0;
  std::int64_t memory_clock_khz = 0;
  KernelLimits limits;
  double memory_bytes_per_second = 0;
  CopyRates pinned;
  CopyRates pageable;
  DenseRates dense;
  // cuDNN's own description of the card (JSON), where a real card wrote one; empty: made from the
  // fields above.
  std::string cudnn_description;
  bool operator==(const GpuProfile&) const = default;
};

// Every known card, in the order of `tidemark list gpus`.
[[nodiscard]] std::span<const GpuProfile> gpu_profiles();
[[nodiscard]] std::vector<std::string> gpu_profile_names();
// Throws UsageError with the known names. Does not know "custom:FILE"; see io.hpp.
[[nodiscard]] const GpuProfile& gpu_profile(const std::string& name);

// What the compute capability alone decides.
[[nodiscard]] KernelLimits kernel_limits(ComputeCapability capability);

}  // namespace tidemark
