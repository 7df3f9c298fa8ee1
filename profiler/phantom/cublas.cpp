// cuBLAS and cuBLASLt: handles and questions; the products themselves do nothing. PyTorch chooses
// and allocates their workspaces, one per handle and stream, so every handle is a new one: the
// thread that runs the backward has its own.
#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstring>

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace {

// Distinct and never reused; leaked, as handles are few.
template <typename Handle>
void make_handle(Handle* handle) {
  void* object = new char;
  std::memcpy(handle, &object, sizeof object);
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  make_handle(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  *mode = CUBLAS_DEFAULT_MATH;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  *mode = CUBLAS_POINTER_MODE_HOST;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  make_handle(handle);
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

// The last three are small, created for each product and destroyed after it: the caller only hands
// them back.
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* descriptor,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  static cublasLtMatmulDescOpaque_t shared{};
  *descriptor = &shared;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  static cublasLtMatrixLayoutOpaque_t shared{};
  *layout = &shared;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  static cublasLtMatmulPreferenceOpaque_t shared{};
  *preference = &shared;
  return CUBLAS_STATUS_SUCCESS;
}

// PyTorch allocates its workspace by its own rule before it asks, so any algorithm will do.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  std::memset(results, 0, sizeof results[0]);
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
