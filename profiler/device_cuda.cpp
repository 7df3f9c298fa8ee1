#include "device_cuda.hpp"

#include <ATen/cuda/CUDAContext.h>
#include <c10/util/Exception.h>

#include <utility>

#include "counting_allocator.hpp"
#include "record_step.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

CudaDevice::CudaDevice(c10::DeviceIndex index, std::string phantom_profile)
    : phantom_profile_(std::move(phantom_profile)), backend_(index, phantom_profile_.empty()) {
  // The numbers that a step keeps on the host come from here.
  CountingAllocator::install();
}

TraceDevice CudaDevice::description() const {
  TraceDevice description;
  description.kind = phantom_profile_.empty() ? DeviceKind::cuda : DeviceKind::phantom;
  description.name = phantom_profile_.empty()
                         ? at::cuda::getDeviceProperties(backend_.device().index())->name
                         : phantom_profile_;
  description.memory_bytes = backend_.total_bytes();
  description.context_bytes = backend_.total_bytes() - backend_.free_bytes();
  return description;
}

RecordedStep CudaDevice::record(const Program& program, const RecordOptions& options) {
  try {
    return record_step(backend_, description(), program, options);
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceError("the plain step, which is recorded first, does not fit: " +
                      backend_.describe_out_of_memory() +
                      "; record it with a smaller batch, or on a phantom GPU with more memory");
  }
}

std::unique_ptr<Execution> CudaDevice::prepare(const StepTrace& trace, const Program* values) {
  const TraceDevice own = description();
  if (trace.device.kind != own.kind ||
      (own.kind == DeviceKind::phantom && trace.device.name != own.name)) {
    const std::string name = own.kind == DeviceKind::cuda ? "cuda" : "phantom:" + own.name;
    throw InputError("the trace was recorded on " + trace.device.name +
                     " and executes only there; record the step again with --device " + name);
  }
  try {
    return prepare_step(backend_, trace, values);
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceError("what exists before the step does not fit: " +
                      backend_.describe_out_of_memory());
  }
}

}  // namespace tidemark
