// A card as cuDNN describes devices: JSON with the 23 keys that cuDNN 9 demands.
#include "cudnn_description.hpp"

#include <algorithm>
#include <optional>

#include "tidemark/io.hpp"

namespace tidemark {

namespace {

OrderedJson made_from(const GpuProfile& profile) {
  const KernelLimits& limits = profile.limits;
  const ComputeCapability capability = profile.compute_capability;
  OrderedJson json;
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
  return json;
}

bool is_count(const Json& value) {
  return value.is_number_unsigned() ||
         (value.is_number_integer() && value.get<std::int64_t>() >= 0);
}

// What is wrong with a value that should be like the one made for the same key; "": nothing.
std::string problem_of(const Json& value, const OrderedJson& made) {
  if (made.is_string()) return value.is_string() ? "" : "is not a text";
  if (!made.is_array()) return is_count(value) ? "" : "is not a whole number from 0";
  const bool is_like_it = value.is_array() && value.size() == made.size() &&
                          std::all_of(value.begin(), value.end(), is_count);
  return is_like_it ? "" : "is not a list of " + std::to_string(made.size()) + " whole numbers";
}

struct Problem {
  std::string key;  // empty: it is with the whole
  std::string what;
};

std::optional<Problem> find_problem(const Json& description, const GpuProfile& profile) {
  if (!description.is_object()) return Problem{"", "is not an object"};
  const OrderedJson made = made_from(profile);
  for (const auto& [key, value] : made.items()) {
    if (!description.contains(key)) return Problem{"", "has no \"" + key + "\""};
    const std::string what = problem_of(description[key], value);
    if (!what.empty()) return Problem{key, what};
  }
  // The plans depend on it.
  const auto version = description["deviceVer"].get<std::uint64_t>();
  if (version == made["deviceVer"].get<std::uint64_t>()) return std::nullopt;
  return Problem{"deviceVer", "is " + std::to_string(version) +
                                  ", another compute capability than the profile's, which is " +
                                  made["deviceVer"].dump() + " there"};
}

}  // namespace

std::string read_cudnn_description(const std::string& path, const JsonCursor& cursor,
                                   const GpuProfile& profile) {
  if (const auto problem = find_problem(cursor.json(), profile)) {
    throw InputError(path, cursor.place() + (problem->key.empty() ? "" : "." + problem->key),
                     problem->what +
                         "; leave cudnn_description out, or let tidemark calibrate write the file "
                         "again on that card");
  }
  return cursor.json().dump();
}

GpuProfile with_cudnn_description(GpuProfile profile, const std::string& text) {
  const std::string source = "cuDNN's description of the " + profile.device_name;
  const Json description = parse_document(source, text);
  if (const auto problem = find_problem(description, profile)) {
    throw InputError(source, problem->key, problem->what);
  }
  profile.cudnn_description = description.dump();
  return profile;
}

std::string cudnn_description(const GpuProfile& profile) {
  return profile.cudnn_description.empty() ? made_from(profile).dump() : profile.cudnn_description;
}

}  // namespace tidemark
