// What the library with LibTorch in it gives to the tool, which opens it with the first device.
#pragma once

#include <cstdint>

#include "tidemark/device.hpp"
#include "tidemark/time_model.hpp"

namespace tidemark {

// Each makes a device that the caller owns; they throw as make_device() does.
struct TorchDevices {
  Device* (*cpu)(std::int32_t threads);
  Device* (*cuda)(std::int32_t index);
  // The process must have entered the phantom of this card, with room to record.
  Device* (*phantom)(const Gpu& card);
  bool (*has_cuda)();
};

}  // namespace tidemark

extern "C" const tidemark::TorchDevices* tidemark_torch_devices();
