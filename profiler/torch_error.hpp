// What LibTorch says of a failure, in one line: advice on debugging and backtraces follow it there.
#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace tidemark {

[[nodiscard]] inline std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

// Whether the device had no memory left for what does not come from PyTorch's allocator: a
// library's handle, the runtime's own memory, pinned memory. cuBLAS calls a handle that found no
// room "not initialized".
[[nodiscard]] inline bool is_out_of_memory(const c10::Error& error) {
  static constexpr std::array<std::string_view, 5> signs{
      "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
      "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate", "CUDNN_STATUS_ALLOC_FAILED",
      "DEVICE_ALLOCATION_FAILED"};
  const std::string text = error.what_without_backtrace();
  return std::any_of(signs.begin(), signs.end(),
                     [&](std::string_view sign) { return text.find(sign) != std::string::npos; });
}

}  // namespace tidemark
