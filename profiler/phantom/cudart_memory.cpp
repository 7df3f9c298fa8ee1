// The CUDA runtime's memory calls. Device memory is the machine's addresses; what is asked for is
// counted, and refused when the card would have refused it.
#include <cuda_runtime_api.h>

#include <cstring>

#include "context.hpp"
#include "last_error.hpp"
#include "machine.hpp"
#include "observer.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

using tidemark::phantom::context_error;
using tidemark::phantom::current_device;
using tidemark::phantom::failed;
using tidemark::phantom::Machine;
using tidemark::phantom::Place;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t size) {
  if (const cudaError_t error = context_error()) return error;
  tidemark::phantom::start_observer();
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  *pointer = Machine::get().allocate(current_device(), size);
  return *pointer == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (const cudaError_t error = context_error()) return error;
  const bool is_known = pointer == nullptr || Machine::get().free(pointer);
  return is_known ? cudaSuccess : failed(cudaErrorInvalidValue);
}

// The driver's stream-ordered pools decide by themselves what they reserve: not known here.
cudaError_t cudaMallocAsync(void** pointer, size_t size, cudaStream_t stream) {
  *pointer = nullptr;
  return failed(cudaErrorNotSupported);
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned flags) {
  if (const cudaError_t error = context_error()) return error;
  *pointer = Machine::get().allocate_pinned(size);
  return *pointer == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }

cudaError_t cudaFreeHost(void* pointer) {
  const bool is_known = pointer == nullptr || Machine::get().free_pinned(pointer);
  return is_known ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void* pointer, size_t size, unsigned flags) {
  Machine::get().register_host(pointer, size);
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  return Machine::get().unregister_host(pointer) ? cudaSuccess
                                                 : failed(cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  if (const cudaError_t error = context_error()) return error;
  Machine& machine = Machine::get();
  *free_bytes = machine.free_bytes(current_device());
  *total = static_cast<size_t>(machine.profile().total_memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t size,
                            enum cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  Machine::get().copy(destination, source, size);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* destination, const void* source, size_t size,
                       enum cudaMemcpyKind kind) {
  return cudaMemcpyAsync(destination, source, size, kind, nullptr);
}

cudaError_t cudaMemcpyPeerAsync(void* destination, int to, const void* source, int from,
                                size_t size, cudaStream_t stream) {
  return cudaMemcpyAsync(destination, source, size, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemcpy2DAsync(void* destination, size_t destination_pitch, const void* source,
                              size_t source_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  for (size_t row = 0; row < height; ++row) {
    Machine::get().copy(static_cast<char*>(destination) + row * destination_pitch,
                        static_cast<const char*>(source) + row * source_pitch, width);
  }
  return cudaSuccess;
}

// __device__ variables are read by kernels only.
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* source, size_t size, size_t offset,
                               enum cudaMemcpyKind kind) {
  return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  *pointer = Machine::get().variables();
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  Machine::get().fill(pointer, value, size);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* pointer, int value, size_t size) {
  return cudaMemsetAsync(pointer, value, size, nullptr);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes* attributes,
                                     const void* pointer) {
  std::memset(attributes, 0, sizeof *attributes);
  Machine& machine = Machine::get();
  switch (machine.place_of(pointer)) {
    case Place::device:
      attributes->type = cudaMemoryTypeDevice;
      attributes->device = machine.device_of(pointer);
      attributes->devicePointer = const_cast<void*>(pointer);
      break;
    case Place::pinned:
    case Place::registered:
      attributes->type = cudaMemoryTypeHost;
      attributes->device = current_device();
      attributes->devicePointer = const_cast<void*>(pointer);
      attributes->hostPointer = const_cast<void*>(pointer);
      break;
    case Place::elsewhere:
      attributes->type = cudaMemoryTypeUnregistered;
      attributes->device = -1;
      attributes->hostPointer = const_cast<void*>(pointer);
      break;
  }
  return cudaSuccess;
}

}  // extern "C"
