#include "torch_error.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace tidemark {
namespace {

c10::Error failed(const std::string& message) {
  return {c10::SourceLocation{__func__, __FILE__, __LINE__}, message};
}

TEST_CASE("memory that runs out beside PyTorch's allocator is told from other failures",
          "[torch_error]") {
  for (const char* message :
       {"CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"}) {
    INFO(message);
    CHECK(is_out_of_memory(failed(message)));
  }
  for (const char* message : {"CUDA error: an illegal memory access was encountered",
                              "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
                              "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"}) {
    INFO(message);
    CHECK_FALSE(is_out_of_memory(failed(message)));
  }
}

TEST_CASE("an error is told by its first line", "[torch_error]") {
  CHECK(first_line(failed("CUDA error: device lost\nadvice\nmore advice")) ==
        "CUDA error: device lost");
}

}  // namespace
}  // namespace tidemark
