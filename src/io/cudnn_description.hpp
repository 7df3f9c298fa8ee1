// Checks what a card's own cuDNN said of it.
#pragma once

#include <string>

#include "json_reading.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {

// The text of the description at that place of a file, of the card in `profile`. Throws InputError
// where cuDNN would refuse it, or where it is another card's.
[[nodiscard]] std::string read_cudnn_description(const std::string& path, const JsonCursor& cursor,
                                                 const GpuProfile& profile);

}  // namespace tidemark
