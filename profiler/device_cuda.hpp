// A GPU as a device: PyTorch's caching allocator, and times where the GPU is real.
#pragma once

#include <optional>

#include "backend_cuda.hpp"
#include "tidemark/device.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {

// The plain step is recorded first, and it may not fit where a checkpointed one does. So a phantom
// has more memory than its card, and executions are held to what the card has.
[[nodiscard]] GpuProfile with_room_to_record(GpuProfile profile);

class CudaDevice final : public Device {
 public:
  // The GPU of this number.
  explicit CudaDevice(c10::DeviceIndex index);
  // The phantom of this card; the process must have entered it, with room to record.
  explicit CudaDevice(const GpuProfile& phantom);

  [[nodiscard]] TraceDevice description() const override;
  [[nodiscard]] RecordedStep record(const Program& program, const RecordOptions& options) override;
  [[nodiscard]] std::unique_ptr<Execution> prepare(const StepTrace& trace,
                                                   const Program* values) override;
  [[nodiscard]] MachineRates calibrate() override;

 private:
  // Of the card, less what its context takes.
  [[nodiscard]] std::optional<Bytes> card_memory() const;

  std::optional<GpuProfile> phantom_;
  CudaBackend backend_;
};

}  // namespace tidemark
