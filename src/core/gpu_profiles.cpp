// The known cards. Only such as the CUDA version of the pinned torch wheel can drive (compute
// capability 7.5 and later).
//
// Sources, for all rows:
//  - compute capability, shared memory, registers, threads and blocks: CUDA C++ Programming Guide
//    13.0, "Technical Specifications per Compute Capability";
//  - total memory: cudaDeviceProp.totalGlobalMem as printed by NVIDIA's deviceQuery on such a card,
//    or the "total capacity" in PyTorch's out-of-memory messages; drivers differ by some 0.1 %;
//  - context memory: "memory in use" less "allocated" less "reserved but unallocated" in PyTorch's
//    out-of-memory messages of processes that used one card and no NCCL; library versions differ;
//  - multiprocessors, L2 cache, memory bus, clocks: deviceQuery on such a card;
//  - memory bandwidth and dense rates: NVIDIA's data sheet of the card (named in the row), without
//    sparsity;
//  - copies: PCI Express x16 as NVIDIA's bandwidthTest measures it: of 63 GB/s (generation 5) some
//    55 GB/s, of 31.5 GB/s (generation 4) some 25 GB/s pinned; pageable copies go through a staging
//    buffer at what one host thread can copy, which no data sheet states. `calibrate` on the real
//    machine replaces all of these.
#include "tidemark/errors.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {

namespace {

constexpr Bytes kib = 1024;
constexpr Bytes mib = 1024 * kib;
constexpr double giga = 1e9;
constexpr double tera = 1e12;

constexpr CopyRates pcie5_pinned{.to_device = 55 * giga, .from_device = 55 * giga};
constexpr CopyRates pcie4_pinned{.to_device = 25 * giga, .from_device = 26 * giga};
constexpr CopyRates staged{.to_device = 10 * giga, .from_device = 8 * giga};

constexpr ComputeCapability ampere{8, 0};
constexpr ComputeCapability ada{8, 9};
constexpr ComputeCapability hopper{9, 0};

std::vector<GpuProfile> make_profiles() {
  return {
      // Data sheet "NVIDIA H200 Tensor Core GPU" (SXM). Capacity 139.80 GiB and 143,771 MiB in
      // nvidia-smi: PyTorch's messages on 8xH200 nodes, NVIDIA/cuda-samples issue 311. Context:
      // 139.60 - 138.14 - 0.81 GiB in such a message. The die is the H100's, with 60 MiB of L2.
      {.name = "h200",
       .device_name = "NVIDIA H200",
       .compute_capability = hopper,
       .total_memory = 143156 * mib,
       .context_memory = 670 * mib,
       .multiprocessors = 132,
       .l2_cache = 60 * mib,
       .memory_bus_bits = 6144,
       .clock_khz = 1980000,
       .memory_clock_khz = 3201000,
       .limits = kernel_limits(hopper),
       .memory_bytes_per_second = 4800 * giga,
       .pinned = pcie5_pinned,
       .pageable = staged,
       .dense = {.fp64 = 67 * tera,
                 .fp32 = 67 * tera,
                 .tf32 = 494.7 * tera,
                 .fp16 = 989.4 * tera,
                 .fp8 = 1978.9 * tera}},
      // Data sheet "NVIDIA H100 Tensor Core GPU" (SXM5, 80 GB). deviceQuery under driver 13.0:
      // 85,017,755,648 bytes, 1980 MHz, 2619 MHz, 5120 bits, 50 MiB. Context: as the H200's, which
      // has the same die.
      {.name = "h100-80g",
       .device_name = "NVIDIA H100 80GB HBM3",
       .compute_capability = hopper,
       .total_memory = 85017755648,
       .context_memory = 670 * mib,
       .multiprocessors = 132,
       .l2_cache = 50 * mib,
       .memory_bus_bits = 5120,
       .clock_khz = 1980000,
       .memory_clock_khz = 2619000,
       .limits = kernel_limits(hopper),
       .memory_bytes_per_second = 3350 * giga,
       .pinned = pcie5_pinned,
       .pageable = staged,
       .dense = {.fp64 = 67 * tera,
                 .fp32 = 67 * tera,
                 .tf32 = 494.7 * tera,
                 .fp16 = 989.4 * tera,
                 .fp8 = 1978.9 * tera}},
      // Data sheet "NVIDIA A100 Tensor Core GPU" (SXM4, 80 GB). deviceQuery under driver 12.5:
      // 85,100,068,864 bytes, 1410 MHz, 1593 MHz, 5120 bits, 40 MiB. Context: 53.16 - 11.97 - 40.69
      // GiB (Tianhao-Qi/Mask2DiT issue 4).
      {.name = "a100-80g",
       .device_name = "NVIDIA A100-SXM4-80GB",
       .compute_capability = ampere,
       .total_memory = 85100068864,
       .context_memory = 512 * mib,
       .multiprocessors = 108,
       .l2_cache = 40 * mib,
       .memory_bus_bits = 5120,
       .clock_khz = 1410000,
       .memory_clock_khz = 1593000,
       .limits = kernel_limits(ampere),
       .memory_bytes_per_second = 2039 * giga,
       .pinned = pcie4_pinned,
       .pageable = staged,
       .dense = {.fp64 = 19.5 * tera, .fp32 = 19.5 * tera, .tf32 = 156 * tera, .fp16 = 312 * tera}},
      // The same data sheet (SXM4, 40 GB). deviceQuery under driver 12.2: 42,298,834,944 bytes
      // (bottlerocket-os/bottlerocket pull request 3873). Context: 14.25 - 12.87 - 0.89 GiB
      // (TianheWu/CoSeR issue 10).
      {.name = "a100-40g",
       .device_name = "NVIDIA A100-SXM4-40GB",
       .compute_capability = ampere,
       .total_memory = 42298834944,
       .context_memory = 502 * mib,
       .multiprocessors = 108,
       .l2_cache = 40 * mib,
       .memory_bus_bits = 5120,
       .clock_khz = 1410000,
       .memory_clock_khz = 1215000,
       .limits = kernel_limits(ampere),
       .memory_bytes_per_second = 1555 * giga,
       .pinned = pcie4_pinned,
       .pageable = staged,
       .dense = {.fp64 = 19.5 * tera, .fp32 = 19.5 * tera, .tf32 = 156 * tera, .fp16 = 312 * tera}},
      // Data sheet "NVIDIA L40S". deviceQuery under driver 12.4 (the README of the Rust port
      // cuda-device-query): 47,576,711,168 bytes, 2520 MHz, 9001 MHz, 384 bits, 96 MiB. Context:
      // 44.29 - 43.88 GiB (stepfun-ai/Step-Video-T2V issue 8).
      {.name = "l40s",
       .device_name = "NVIDIA L40S",
       .compute_capability = ada,
       .total_memory = 47576711168,
       .context_memory = 420 * mib,
       .multiprocessors = 142,
       .l2_cache = 96 * mib,
       .memory_bus_bits = 384,
       .clock_khz = 2520000,
       .memory_clock_khz = 9001000,
       .limits = kernel_limits(ada),
       .memory_bytes_per_second = 864 * giga,
       .pinned = pcie4_pinned,
       .pageable = staged,
       .dense = {.fp64 = 1.43 * tera,  // one 64th of fp32: Ada whitepaper
                 .fp32 = 91.6 * tera,
                 .tf32 = 183 * tera,
                 .fp16 = 362.05 * tera,
                 .fp8 = 733 * tera}},
      // Data sheet "NVIDIA L4". deviceQuery: 23,583,784,960 bytes, 58 multiprocessors, 2040 MHz
      // (bottlerocket-os/bottlerocket-kernel-kit pull request 139); L2: Ada whitepaper. Context: of
      // the other Ada cards the smallest, for the L4's fewer multiprocessors.
      {.name = "l4",
       .device_name = "NVIDIA L4",
       .compute_capability = ada,
       .total_memory = 23583784960,
       .context_memory = 360 * mib,
       .multiprocessors = 58,
       .l2_cache = 48 * mib,
       .memory_bus_bits = 192,
       .clock_khz = 2040000,
       .memory_clock_khz = 6251000,
       .limits = kernel_limits(ada),
       .memory_bytes_per_second = 300 * giga,
       .pinned = pcie4_pinned,
       .pageable = staged,
       .dense = {.fp64 = 0.49 * tera,  // one 64th of fp32
                 .fp32 = 30.3 * tera,
                 .tf32 = 60 * tera,
                 .fp16 = 121 * tera,
                 .fp8 = 242 * tera}},
      // "NVIDIA Ada GPU Architecture" whitepaper (appendix, GeForce RTX 4090). deviceQuery under
      // driver 13.0: 25,250,627,584 bytes, 2520 MHz, 10501 MHz, 384 bits, 72 MiB. Context: 21.61 -
      // 21.16 - 0.01 GiB (Soul-AILab/SoulX-FlashTalk issue 5). Tensor rates are those with fp32
      // accumulation, half of the headline figures on GeForce cards.
      {.name = "rtx4090",
       .device_name = "NVIDIA GeForce RTX 4090",
       .compute_capability = ada,
       .total_memory = 25250627584,
       .context_memory = 450 * mib,
       .multiprocessors = 128,
       .l2_cache = 72 * mib,
       .memory_bus_bits = 384,
       .clock_khz = 2520000,
       .memory_clock_khz = 10501000,
       .limits = kernel_limits(ada),
       .memory_bytes_per_second = 1008 * giga,
       .pinned = pcie4_pinned,
       .pageable = staged,
       .dense = {.fp64 = 1.29 * tera,  // one 64th of fp32
                 .fp32 = 82.6 * tera,
                 .tf32 = 82.6 * tera,
                 .fp16 = 165.2 * tera,
                 .fp8 = 330.3 * tera}},
  };
}

}  // namespace

KernelLimits kernel_limits(ComputeCapability capability) {
  KernelLimits limits{.shared_memory_per_block = 48 * kib,
                      .shared_memory_per_block_optin = 99 * kib,
                      .shared_memory_reserved_per_block = 1 * kib,
                      .shared_memory_per_multiprocessor = 100 * kib,
                      .registers_per_multiprocessor = 65536,
                      .threads_per_multiprocessor = 1536,
                      .blocks_per_multiprocessor = 16};
  if (capability == ComputeCapability{7, 5}) {
    limits.shared_memory_per_block_optin = 64 * kib;
    limits.shared_memory_reserved_per_block = 0;
    limits.shared_memory_per_multiprocessor = 64 * kib;
    limits.threads_per_multiprocessor = 1024;
  } else if (capability == ampere) {
    limits.shared_memory_per_block_optin = 163 * kib;
    limits.shared_memory_per_multiprocessor = 164 * kib;
    limits.threads_per_multiprocessor = 2048;
    limits.blocks_per_multiprocessor = 32;
  } else if (capability.major == 9 || capability.major == 10) {
    limits.shared_memory_per_block_optin = 227 * kib;
    limits.shared_memory_per_multiprocessor = 228 * kib;
    limits.threads_per_multiprocessor = 2048;
    limits.blocks_per_multiprocessor = 32;
  } else if (capability == ada || capability.major == 12) {
    limits.blocks_per_multiprocessor = 24;
  }
  return limits;
}

std::span<const GpuProfile> gpu_profiles() {
  static const std::vector<GpuProfile> profiles = make_profiles();
  return profiles;
}

std::vector<std::string> gpu_profile_names() {
  std::vector<std::string> names;
  for (const GpuProfile& profile : gpu_profiles()) names.push_back(profile.name);
  return names;
}

const GpuProfile& gpu_profile(const std::string& name) {
  std::string known;
  for (const GpuProfile& profile : gpu_profiles()) {
    if (profile.name == name) return profile;
    known += profile.name + ", ";
  }
  throw UsageError("there is no GPU profile '" + name + "'; the profiles are " + known +
                   "and custom:FILE");
}

}  // namespace tidemark
