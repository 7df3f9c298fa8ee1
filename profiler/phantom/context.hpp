// Whether CUDA still answers in this process. A context survives neither a fork nor the loss of its
// card: from then on every call gives the same error.
#pragma once

#include <cuda_runtime_api.h>

namespace tidemark::phantom {

// cudaSuccess, or that error, noted as the thread's last one.
[[nodiscard]] cudaError_t context_error();

// The same for a kernel, which is counted: a card may have to fail after so many.
[[nodiscard]] cudaError_t launch_kernel();

// Forked processes get records of their own, and no context where their parent had one.
void watch_forks();

}  // namespace tidemark::phantom
