// A GPU as a device: PyTorch's caching allocator, and times where the GPU is real.
#pragma once

#include <string>

#include "backend_cuda.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

class CudaDevice final : public Device {
 public:
  // The GPU of this number; `phantom_profile`: the name of the card that it stands for, where it is
  // a phantom, else empty.
  CudaDevice(c10::DeviceIndex index, std::string phantom_profile);

  [[nodiscard]] TraceDevice description() const override;
  [[nodiscard]] RecordedStep record(const Program& program, const RecordOptions& options) override;
  [[nodiscard]] std::unique_ptr<Execution> prepare(const StepTrace& trace,
                                                   const Program* values) override;

 private:
  std::string phantom_profile_;
  CudaBackend backend_;
};

}  // namespace tidemark
