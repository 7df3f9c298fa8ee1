// A CUDA runtime whose memory is addresses only, linked into a program before the real one: enough
// for PyTorch's caching allocator to run alone, without a GPU.
#pragma once

#include <cstddef>

namespace tidemark::test {

// The device's memory; to be set before anything is allocated.
void set_device_bytes(std::size_t bytes);

}  // namespace tidemark::test
