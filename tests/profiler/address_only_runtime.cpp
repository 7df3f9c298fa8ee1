#include "address_only_runtime.hpp"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>

// The headers rename this one; what PyTorch imports has the plain name.
#undef cudaGetDeviceProperties

namespace {

constexpr std::size_t granularity = std::size_t{2} << 20;

// One device. Addresses only grow, so that a placement is a pure function of the calls.
struct Device {
  std::size_t bytes = std::size_t{140} << 30;
  std::size_t taken = 0;
  std::uintptr_t next_address = std::uintptr_t{1} << 40;
  std::map<std::uintptr_t, std::size_t> allocations;

  bool take(std::size_t size) {
    if (size > bytes - taken) return false;
    taken += size;
    return true;
  }

  std::uintptr_t reserve(std::size_t size) {
    const std::uintptr_t address = next_address;
    next_address += (size + granularity - 1) / granularity * granularity;
    return address;
  }
};

Device device;

// ---- The driver's virtual memory, for expandable segments ---------------------------------------

CUresult reserve_addresses(CUdeviceptr* address, std::size_t bytes, std::size_t, CUdeviceptr,
                           unsigned long long) {
  *address = device.reserve(bytes);
  return CUDA_SUCCESS;
}

// The handle is all there is to know about memory that does not exist: its size.
CUresult create_memory(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                       const CUmemAllocationProp*, unsigned long long) {
  *handle = bytes;
  return device.take(bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult release_memory(CUmemGenericAllocationHandle handle) {
  device.taken -= handle;
  return CUDA_SUCCESS;
}

CUresult answer_nothing() { return CUDA_SUCCESS; }

template <typename Function>
void* address_of(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

namespace tidemark::test {

void set_device_bytes(std::size_t bytes) { device.bytes = bytes; }

}  // namespace tidemark::test

// ---- What libc10_cuda imports and an answer matters for -----------------------------------------

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t size) {
  const std::size_t bytes = (size + granularity - 1) / granularity * granularity;
  if (!device.take(bytes)) return cudaErrorMemoryAllocation;
  const std::uintptr_t address = device.reserve(bytes);
  device.allocations[address] = bytes;
  *pointer = reinterpret_cast<void*>(address);
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const auto found = device.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == device.allocations.end()) return cudaErrorInvalidValue;
  device.taken -= found->second;
  device.allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total) {
  *free_bytes = device.bytes - device.taken;
  *total = device.bytes;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* ordinal) {
  *ordinal = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->totalGlobalMem = device.bytes;
  properties->major = 9;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const std::string_view wanted = name;
  *function = address_of(answer_nothing);
  if (wanted == "cuMemAddressReserve") *function = address_of(reserve_addresses);
  if (wanted == "cuMemCreate") *function = address_of(create_memory);
  if (wanted == "cuMemRelease") *function = address_of(release_memory);
  if (result != nullptr) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

}  // extern "C"
