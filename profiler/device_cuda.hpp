// A GPU as a device: PyTorch's caching allocator, and times where the GPU is real.
#pragma once

#include <optional>

#include "backend_cuda.hpp"
#include "tidemark/device.hpp"
#include "tidemark/time_model.hpp"

namespace tidemark {

class CudaDevice final : public Device {
 public:
  // The GPU of this number.
  explicit CudaDevice(c10::DeviceIndex index);
  // The phantom of this card; the process must have entered it, with room to record.
  explicit CudaDevice(const Gpu& phantom);

  [[nodiscard]] TraceDevice description() const override;
  [[nodiscard]] RecordedStep record(const Program& program, const RecordOptions& options) override;
  [[nodiscard]] std::unique_ptr<Execution> prepare(const StepTrace& trace,
                                                   const Program* values) override;
  [[nodiscard]] MachineRates calibrate() override;

 private:
  // Of the card, less what its context takes.
  [[nodiscard]] std::optional<Bytes> card_memory() const;

  void add_card(const GpuProfile& card, MachineRates& rates) const;

  std::optional<Gpu> phantom_;
  CudaBackend backend_;
};

}  // namespace tidemark
