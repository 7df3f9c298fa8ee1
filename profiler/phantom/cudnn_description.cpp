#include "cudnn_description.hpp"

#include <nlohmann/json.hpp>

namespace tidemark::phantom {

std::string cudnn_description(const GpuProfile& profile) {
  if (!profile.cudnn_description.empty()) return profile.cudnn_description;
  const KernelLimits& limits = profile.limits;
  const ComputeCapability capability = profile.compute_capability;
  nlohmann::ordered_json json;
  json["deviceName"] = profile.device_name;
  json["deviceVer"] = capability.major * 100 + capability.minor * 10;
  json["driverVer"] = 13000;
  json["totalGlobalMem"] = profile.total_memory;
  json["cudaDeviceId"] = 0;
  json["pciDeviceId"] = 0;
  json["multiProcessorCount"] = profile.multiprocessors;
  json["maxCtasPerSM"] = limits.blocks_per_multiprocessor;
  json["maxThreadsPerSM"] = limits.threads_per_multiprocessor;
  json["warpSize"] = 32;
  json["maxGridSize"] = {2147483647, 65535, 65535};
  json["maxBlockSize"] = {1024, 1024, 64};
  json["maxThreadsPerBlock"] = 1024;
  json["regsPerBlock"] = limits.registers_per_multiprocessor;
  json["maxRegistersPerSM"] = limits.registers_per_multiprocessor;
  json["maxSharedMemoryPerBlock"] = limits.shared_memory_per_block;
  json["maxSharedMemoryPerBlockOptin"] = limits.shared_memory_per_block_optin;
  json["reservedSharedMemoryPerBlock"] = limits.shared_memory_reserved_per_block;
  json["l2CacheSize"] = profile.l2_cache;
  json["smClockRateKHz"] = profile.clock_khz;
  json["memClockRateKHz"] = profile.memory_clock_khz;
  json["isTccDriver"] = 0;
  json["supportCoopLaunch"] = 1;
  return json.dump();
}

}  // namespace tidemark::phantom
