#include "device_cuda.hpp"

#include <ATen/cuda/CUDAContext.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "calibrate.hpp"
#include "card_description.hpp"
#include "counting_allocator.hpp"
#include "record_step.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/phantom.hpp"
#include "tidemark/time_model.hpp"
#include "torch_error.hpp"

namespace tidemark {

// The numbers that a step keeps on the host come from the counting allocator.
CudaDevice::CudaDevice(c10::DeviceIndex index) : backend_(index, /*computes=*/true) {
  CountingAllocator::install();
}

CudaDevice::CudaDevice(const Gpu& phantom) : phantom_(phantom), backend_(0, /*computes=*/false) {
  CountingAllocator::install();
}

TraceDevice CudaDevice::description() const {
  TraceDevice description;
  description.memory_bytes = backend_.total_bytes();
  description.context_bytes = backend_.total_bytes() - backend_.free_bytes();
  if (!phantom_) {
    description.kind = DeviceKind::cuda;
    description.name = at::cuda::getDeviceProperties(backend_.device().index())->name;
    return description;
  }
  description.kind = DeviceKind::phantom;
  const GpuProfile& card = phantom_->profile;
  description.name = card.name;
  description.memory_bytes = card.total_memory;
  description.context_bytes = card.context_memory;
  description.transfer_rates = phantom_->rates.transfer_rates;
  return description;
}

std::optional<Bytes> CudaDevice::card_memory() const {
  if (!phantom_) return std::nullopt;
  return phantom_->profile.total_memory - phantom_->profile.context_memory;
}

RecordedStep CudaDevice::record(const Program& program, const RecordOptions& options) {
  try {
    backend_.limit_memory(std::nullopt);
    RecordedStep recorded = record_step(backend_, description(), program, options);
    if (phantom_) {
      recorded.trace = with_modelled_times(std::move(recorded.trace), phantom_->rates);
    } else {
      // Libraries and kernels are loaded when they are first used: now they all are.
      recorded.trace.device.context_bytes = backend_.taken_outside();
    }
    return recorded;
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceError("the plain step, which is recorded first, does not fit: " +
                      backend_.describe_out_of_memory() +
                      "; record it with a smaller batch, or on a phantom GPU with more memory");
  } catch (const c10::Error& error) {
    throw DeviceError("the plain step, which is recorded first, fails: " + first_line(error));
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
    backend_.limit_memory(card_memory());
    return prepare_step(backend_, trace, values);
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceError("what exists before the step does not fit: " +
                      backend_.describe_out_of_memory());
  } catch (const c10::Error& error) {
    throw DeviceError("the step cannot be made ready: " + first_line(error));
  }
}

// What a phantom of it needs to know.
void CudaDevice::add_card(const GpuProfile& card, MachineRates& rates) const {
  rates.card = with_rates(card, rates);
  std::string reason;
  const auto description = own_cudnn_description(backend_.device().index(), reason);
  try {
    if (description) rates.card = with_cudnn_description(*rates.card, *description);
  } catch (const InputError& error) {
    reason = error.what();
  }
  if (!reason.empty()) {
    rates.notes.push_back(
        "cuDNN's own description of this card is missing, so on a phantom of it cuDNN plans for "
        "one made from the card's figures: " +
        reason);
  }
}

MachineRates CudaDevice::calibrate() {
  const TraceDevice own = description();
  try {
    CalibrationEffort effort = effort_for(backend_);
    // Operands, results and scratch lie in it together.
    effort.largest_bytes =
        std::min(effort.largest_bytes, static_cast<double>(backend_.free_bytes()) / 8);
    // Before the calibration, which loads more kernels than any one step.
    load_kernels(backend_);
    const GpuProfile card = describe_card(backend_);
    MachineRates rates = tidemark::calibrate(backend_, own.name, own.kind, effort);
    add_card(card, rates);
    return rates;
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceError("the calibration does not fit: " + backend_.describe_out_of_memory() +
                      "; end what else runs on this GPU");
  } catch (const c10::Error& error) {
    throw DeviceError("the calibration fails: " + first_line(error));
  }
}

}  // namespace tidemark
