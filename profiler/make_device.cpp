// Every device, one line each.
#include <array>
#include <string>

#include "device_cpu.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

struct DeviceRow {
  const char* name;
  std::unique_ptr<Device> (*make)(std::int32_t threads);
};

std::unique_ptr<Device> make_cpu(std::int32_t threads) {
  return std::make_unique<CpuDevice>(threads);
}

constexpr std::array<DeviceRow, 2> devices{{{"auto", make_cpu}, {"cpu", make_cpu}}};

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const DeviceRow& row : devices) names.emplace_back(row.name);
  return names;
}

std::unique_ptr<Device> make_device(const std::string& name, std::int32_t threads) {
  std::string known;
  for (const DeviceRow& row : devices) {
    if (row.name == name) return row.make(threads);
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw UsageError("there is no device '" + name + "'; --device takes one of " + known);
}

}  // namespace tidemark
