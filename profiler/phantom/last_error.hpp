// The CUDA runtime remembers each thread's last error until it is asked.
#pragma once

#include <cuda_runtime_api.h>

namespace tidemark::phantom {

// Notes an error and gives it.
cudaError_t failed(cudaError_t error);

}  // namespace tidemark::phantom
