#include "torch_library.hpp"

#include "device_cpu.hpp"
#include "device_cuda.hpp"

namespace tidemark {

namespace {

constexpr TorchDevices devices{
    .cpu = [](std::int32_t threads) -> Device* { return new CpuDevice(threads); },
    .cuda = [](std::int32_t index) -> Device* {
      return new CudaDevice(static_cast<c10::DeviceIndex>(index));
    },
    .phantom = [](const Gpu& card) -> Device* { return new CudaDevice(card); },
    .has_cuda = has_cuda};

}  // namespace

}  // namespace tidemark

const tidemark::TorchDevices* tidemark_torch_devices() { return &tidemark::devices; }
