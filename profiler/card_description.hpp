// What a phantom of a real card needs to know of it, asked of the card itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backend_cuda.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {

// All but the rates and cuDNN's description. Memory that others use on the card counts as taken by
// its context.
[[nodiscard]] GpuProfile describe_card(const CudaBackend& backend);

// How cuDNN describes that device (JSON). nullopt where it does not; then `reason` says why, in
// half a sentence. `library`: nullptr is the cuDNN that torch has loaded.
[[nodiscard]] std::optional<std::string> own_cudnn_description(std::int32_t device,
                                                               std::string& reason,
                                                               const char* library = nullptr);

}  // namespace tidemark
