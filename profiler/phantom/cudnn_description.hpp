// The card as cuDNN describes devices.
#pragma once

#include <string>

#include "tidemark/gpu_profile.hpp"

namespace tidemark::phantom {

// JSON with the 23 keys that cuDNN 9 demands; a real card's own description where the profile has
// one.
[[nodiscard]] std::string cudnn_description(const GpuProfile& profile);

}  // namespace tidemark::phantom
