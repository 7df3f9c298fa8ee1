// The CPU as a device: exact bytes by the counting allocator, measured times.
#pragma once

#include "backend_cpu.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::int32_t threads);

  [[nodiscard]] TraceDevice description() const override;
  [[nodiscard]] RecordedStep record(const Program& program, const RecordOptions& options) override;
  [[nodiscard]] std::unique_ptr<Execution> prepare(const StepTrace& trace,
                                                   const Program* values) override;
  [[nodiscard]] MachineRates calibrate() override;

 private:
  CpuBackend backend_;
};

}  // namespace tidemark
