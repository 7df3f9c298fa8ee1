#include "device_cpu.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "calibrate.hpp"
#include "record_step.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t copied_bytes = std::size_t{64} << 20;
constexpr int measured_copies = 5;

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

// What copies between two places in memory achieve, outside counted memory.
double copy_bytes_per_second() {
  std::vector<char> from(copied_bytes, 1);
  std::vector<char> to(copied_bytes, 2);
  std::vector<double> times;
  for (int i = 0; i < measured_copies; ++i) {
    const Clock::time_point begin = Clock::now();
    std::memcpy(to.data(), from.data(), copied_bytes);
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  return static_cast<double>(copied_bytes) / times[times.size() / 2];
}

}  // namespace

CpuDevice::CpuDevice(std::int32_t threads) {
  if (threads > 0) at::set_num_threads(threads);
}

TraceDevice CpuDevice::description() const {
  return {.kind = DeviceKind::cpu,
          .name = processor_name(),
          .threads = at::get_num_threads(),
          .copy_bytes_per_second = copy_bytes_per_second()};
}

RecordedStep CpuDevice::record(const Program& program, const RecordOptions& options) {
  return record_step(backend_, description(), program, options);
}

std::unique_ptr<Execution> CpuDevice::prepare(const StepTrace& trace, const Program* values) {
  if (trace.device.kind != DeviceKind::cpu) {
    throw InputError("the trace was recorded on " + trace.device.name +
                     " and executes only there; record the step again with --device cpu");
  }
  if (trace.device.threads != at::get_num_threads()) {
    throw InputError("the trace was recorded with " + std::to_string(trace.device.threads) +
                     " threads and this run has " + std::to_string(at::get_num_threads()) +
                     "; give --threads " + std::to_string(trace.device.threads));
  }
  return prepare_step(backend_, trace, values);
}

MachineRates CpuDevice::calibrate() {
  return tidemark::calibrate(backend_, processor_name(), DeviceKind::cpu, effort_for(backend_));
}

}  // namespace tidemark
