// Every device, one line each.
#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include "device_cpu.hpp"
#include "device_cuda.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

namespace {

// "cuda:1" is the kind "cuda" with the argument "1".
struct DeviceRow {
  const char* kind;
  const char* usage;
  std::unique_ptr<Device> (*make)(const std::string& argument, std::int32_t threads);
};

std::unique_ptr<Device> make_cpu(const std::string& argument, std::int32_t threads) {
  if (!argument.empty()) throw UsageError("--device cpu takes no number");
  return std::make_unique<CpuDevice>(threads);
}

std::unique_ptr<Device> make_cuda(const std::string& argument, std::int32_t) {
  int index = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, index);
  const bool is_number = error == std::errc() && rest == end && index >= 0 && index < 64;
  if (!argument.empty() && !is_number) {
    throw UsageError("--device cuda takes the number of a GPU, such as cuda:0, not cuda:" +
                     argument);
  }
  return std::make_unique<CudaDevice>(static_cast<c10::DeviceIndex>(index));
}

std::unique_ptr<Device> make_phantom(const std::string& argument, std::int32_t) {
  const GpuProfile profile = find_gpu_profile(argument);
  enter_phantom(with_room_to_record(profile));
  return std::make_unique<CudaDevice>(profile);
}

std::unique_ptr<Device> make_auto(const std::string&, std::int32_t threads) {
  if (has_cuda()) return make_cuda("", threads);
  return make_cpu("", threads);
}

constexpr std::array<DeviceRow, 4> devices{{{"auto", "auto", make_auto},
                                            {"cpu", "cpu", make_cpu},
                                            {"cuda", "cuda[:N]", make_cuda},
                                            {"phantom", "phantom:PROFILE", make_phantom}}};

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const DeviceRow& row : devices) names.emplace_back(row.usage);
  return names;
}

std::unique_ptr<Device> make_device(const std::string& name, std::int32_t threads) {
  const std::size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const std::string argument = colon == std::string::npos ? "" : name.substr(colon + 1);
  std::string known;
  for (const DeviceRow& row : devices) {
    if (kind == row.kind) return row.make(argument, threads);
    known += (known.empty() ? "" : ", ") + std::string(row.usage);
  }
  throw UsageError("there is no device '" + name + "'; --device takes one of " + known);
}

}  // namespace tidemark
