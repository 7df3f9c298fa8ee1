// A GPU profile as JSON. One list of fields serves reading and writing.
#include "gpu_profile_json.hpp"

#include "cudnn_description.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

constexpr std::int32_t newest_gpu_profile_version = 1;
constexpr Bytes most_memory = Bytes{1} << 43;  // half of the phantom's addresses

// Calls `visit(name, field, least)` for every whole number of a profile. Of clocks and the like
// some drivers say nothing, which is 0.
template <typename Profile, typename Visit>
void visit_sizes(Profile& profile, const Visit& visit) {
  visit("total_memory_bytes", profile.total_memory, 1);
  visit("context_memory_bytes", profile.context_memory, 1);
  visit("multiprocessors", profile.multiprocessors, 1);
  visit("l2_cache_bytes", profile.l2_cache, 0);
  visit("memory_bus_bits", profile.memory_bus_bits, 0);
  visit("clock_khz", profile.clock_khz, 0);
  visit("memory_clock_khz", profile.memory_clock_khz, 0);
}

// Those that the compute capability decides; a file need not repeat them.
template <typename Limits, typename Visit>
void visit_limits(Limits& limits, const Visit& visit) {
  visit("shared_memory_per_block_bytes", limits.shared_memory_per_block);
  visit("shared_memory_per_block_optin_bytes", limits.shared_memory_per_block_optin);
  visit("shared_memory_reserved_per_block_bytes", limits.shared_memory_reserved_per_block);
  visit("shared_memory_per_multiprocessor_bytes", limits.shared_memory_per_multiprocessor);
  visit("registers_per_multiprocessor", limits.registers_per_multiprocessor);
  visit("threads_per_multiprocessor", limits.threads_per_multiprocessor);
  visit("blocks_per_multiprocessor", limits.blocks_per_multiprocessor);
}

template <typename Profile, typename Visit>
void visit_rates(Profile& profile, const Visit& visit) {
  visit("memory_bytes_per_second", profile.memory_bytes_per_second);
  visit("pinned_to_device_bytes_per_second", profile.pinned.to_device);
  visit("pinned_from_device_bytes_per_second", profile.pinned.from_device);
  visit("pageable_to_device_bytes_per_second", profile.pageable.to_device);
  visit("pageable_from_device_bytes_per_second", profile.pageable.from_device);
  visit("fp64_flops_per_second", profile.dense.fp64);
  visit("fp32_flops_per_second", profile.dense.fp32);
  visit("tf32_flops_per_second", profile.dense.tf32);
  visit("fp16_flops_per_second", profile.dense.fp16);
  visit("fp8_flops_per_second", profile.dense.fp8);
}

ComputeCapability read_capability(const JsonCursor& cursor) {
  const std::string text = cursor.string();
  const std::size_t dot = text.find('.');
  const bool has_digits = dot != std::string::npos && dot > 0 && dot < 3 &&
                          dot + 2 == text.size() &&
                          text.find_first_not_of("0123456789.") == std::string::npos;
  if (!has_digits) cursor.fail("is not a compute capability such as \"9.0\"");
  const ComputeCapability capability{std::stoi(text.substr(0, dot)),
                                     std::stoi(text.substr(dot + 1))};
  if (capability < ComputeCapability{7, 5}) {
    cursor.fail("is " + text + ", and torch for CUDA 13 runs on 7.5 and later only");
  }
  return capability;
}

void check(const JsonCursor& root, const GpuProfile& profile) {
  if (profile.total_memory > most_memory) root.at("total_memory_bytes").fail("is above 8 TiB");
  if (profile.context_memory >= profile.total_memory) {
    root.at("context_memory_bytes").fail("leaves nothing of the total memory");
  }
}

}  // namespace

GpuProfile read_gpu_profile(const std::string& path, const JsonCursor& root) {
  check_format(path, root.json(), gpu_profile_format, newest_gpu_profile_version);
  GpuProfile profile;
  profile.name = root.at("name").string();
  profile.device_name = root.at("device_name").string();
  profile.compute_capability = read_capability(root.at("compute_capability"));
  profile.limits = kernel_limits(profile.compute_capability);
  visit_sizes(profile, [&](const char* name, auto& field, std::int64_t least) {
    using Field = std::remove_reference_t<decltype(field)>;
    field = static_cast<Field>(root.at(name).integer(least, std::numeric_limits<Field>::max()));
  });
  visit_limits(profile.limits, [&](const char* name, auto& field) {
    using Field = std::remove_reference_t<decltype(field)>;
    const auto given = root.find(name);
    if (given) field = static_cast<Field>(given->integer(0, std::numeric_limits<Field>::max()));
  });
  visit_rates(profile,
              [&](const char* name, double& field) { field = root.at(name).number_from_zero(); });
  const auto description = root.find("cudnn_description");
  if (description) {
    profile.cudnn_description = read_cudnn_description(path, *description, profile);
  }
  check(root, profile);
  return profile;
}

OrderedJson to_json(const GpuProfile& profile) {
  OrderedJson json;
  json["format"] = gpu_profile_format;
  json["schema_version"] = newest_gpu_profile_version;
  json["name"] = profile.name;
  json["device_name"] = profile.device_name;
  json["compute_capability"] = std::to_string(profile.compute_capability.major) + "." +
                               std::to_string(profile.compute_capability.minor);
  const auto write = [&](const char* name, const auto& field) { json[name] = field; };
  visit_sizes(profile, [&](const char* name, const auto& field, int) { write(name, field); });
  visit_limits(profile.limits, write);
  visit_rates(profile, write);
  if (!profile.cudnn_description.empty()) {
    json["cudnn_description"] = OrderedJson::parse(profile.cudnn_description);
  }
  return json;
}

GpuProfile parse_gpu_profile(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  return read_gpu_profile(path, JsonCursor(path, document, ""));
}

std::string format_gpu_profile(const GpuProfile& profile) {
  return to_text(to_json(profile), 2) + "\n";
}

}  // namespace tidemark
