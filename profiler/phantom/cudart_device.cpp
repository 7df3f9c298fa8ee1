// The CUDA runtime's questions about devices, all answered from the profile.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "context.hpp"
#include "last_error.hpp"
#include "machine.hpp"
#include "observer.hpp"
#include "streams.hpp"
#include "unanswered.hpp"

// Headers rename these; what PyTorch imports has the plain name.
#undef cudaGetDeviceProperties

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

using tidemark::KernelLimits;
using tidemark::phantom::context_error;
using tidemark::phantom::current_device;
using tidemark::phantom::failed;
using tidemark::phantom::Machine;

namespace tidemark::phantom {

namespace {

// CUDA 13.0's first release; every driver of that series can run the wheel.
constexpr int cuda_version = CUDART_VERSION;

thread_local cudaError_t last_error = cudaSuccess;

bool is_device(int device) { return device >= 0 && device < Machine::get().device_count(); }

void fill_limits(cudaDeviceProp& properties, const KernelLimits& limits) {
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = 1024;
  properties.maxThreadsPerMultiProcessor = limits.threads_per_multiprocessor;
  properties.maxBlocksPerMultiProcessor = limits.blocks_per_multiprocessor;
  properties.sharedMemPerBlock = static_cast<std::size_t>(limits.shared_memory_per_block);
  properties.sharedMemPerBlockOptin =
      static_cast<std::size_t>(limits.shared_memory_per_block_optin);
  properties.sharedMemPerMultiprocessor =
      static_cast<std::size_t>(limits.shared_memory_per_multiprocessor);
  properties.reservedSharedMemPerBlock =
      static_cast<std::size_t>(limits.shared_memory_reserved_per_block);
  properties.regsPerBlock = limits.registers_per_multiprocessor;
  properties.regsPerMultiprocessor = limits.registers_per_multiprocessor;
}

cudaDeviceProp device_properties(int device) {
  const GpuProfile& profile = Machine::get().profile();
  cudaDeviceProp properties{};
  std::snprintf(properties.name, sizeof properties.name, "%s", profile.device_name.c_str());
  std::memcpy(properties.uuid.bytes, "phantom", 7);
  properties.uuid.bytes[8] = static_cast<char>(device);
  properties.totalGlobalMem = static_cast<std::size_t>(profile.total_memory);
  properties.major = profile.compute_capability.major;
  properties.minor = profile.compute_capability.minor;
  properties.multiProcessorCount = profile.multiprocessors;
  fill_limits(properties, profile.limits);
  // The same on every compute capability from 7.5 on.
  properties.maxGridSize[0] = 2147483647;
  properties.maxGridSize[1] = 65535;
  properties.maxGridSize[2] = 65535;
  properties.maxThreadsDim[0] = 1024;
  properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.totalConstMem = 65536;
  properties.textureAlignment = 512;
  properties.memPitch = 2147483647;
  properties.l2CacheSize = static_cast<int>(profile.l2_cache);
  properties.memoryBusWidth = profile.memory_bus_bits;
  properties.asyncEngineCount = 3;
  properties.concurrentKernels = 1;
  properties.unifiedAddressing = 1;
  properties.canMapHostMemory = 1;
  properties.cooperativeLaunch = 1;
  properties.ECCEnabled = 1;
  properties.pciBusID = device + 1;
  return properties;
}

}  // namespace

cudaError_t failed(cudaError_t error) {
  last_error = error;
  return error;
}

}  // namespace tidemark::phantom

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = Machine::get().device_count();
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = context_error()) return error;
  if (!tidemark::phantom::is_device(device)) return failed(cudaErrorInvalidDevice);
  current_device() = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp* properties, int device) {
  if (!tidemark::phantom::is_device(device)) return failed(cudaErrorInvalidDevice);
  *properties = tidemark::phantom::device_properties(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, enum cudaDeviceAttr attribute, int device) {
  static tidemark::phantom::Unanswered unknown(
      "cudaDeviceGetAttribute of what no profile holds, answered 0");
  if (!tidemark::phantom::is_device(device)) return failed(cudaErrorInvalidDevice);
  const cudaDeviceProp properties = tidemark::phantom::device_properties(device);
  const tidemark::GpuProfile& profile = Machine::get().profile();
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = properties.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(properties.reservedSharedMemPerBlock);
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = properties.regsPerBlock;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = properties.maxGridSize[0];
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = properties.maxGridSize[1];
      break;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = properties.maxThreadsDim[0];
      break;
    case cudaDevAttrMaxBlockDimZ:
      *value = properties.maxThreadsDim[2];
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrClockRate:
      *value = static_cast<int>(profile.clock_khz);
      break;
    case cudaDevAttrMemoryClockRate:
      *value = static_cast<int>(profile.memory_clock_khz);
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = properties.memoryBusWidth;
      break;
    case cudaDevAttrTextureAlignment:
      *value = 512;
      break;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
      *value = 1;
      break;
    default:
      *value = 0;
      unknown.modelled();
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = context_error()) return error;
  tidemark::phantom::synchronize_device();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = 0;
  return cudaSuccess;
}

// Asked once for the first stream of a process, before anything is allocated and under no lock: the
// moment to start following the allocator.
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  tidemark::phantom::start_observer();
  Machine::get().record().used_device = 1;
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = tidemark::phantom::cuda_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = tidemark::phantom::cuda_version;
  return cudaSuccess;
}

// PyTorch reaches the driver this way, for expandable segments among others.
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult* status) {
  *function = nullptr;
  if (void* driver = dlopen("libcuda.so.1", RTLD_NOW)) {
    // The newest form, as the headers choose it.
    for (const char* suffix : {"_v4", "_v3", "_v2", ""}) {
      *function = dlsym(driver, (std::string(name) + suffix).c_str());
      if (*function != nullptr) break;
    }
  }
  if (status != nullptr) {
    *status =
        *function != nullptr ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  }
  return *function != nullptr ? cudaSuccess : failed(cudaErrorSymbolNotFound);
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = tidemark::phantom::last_error;
  tidemark::phantom::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return tidemark::phantom::last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorInitializationError:
      return "cudaErrorInitializationError";
    case cudaErrorECCUncorrectable:
      return "cudaErrorECCUncorrectable";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorNotSupported:
      return "operation not supported on the phantom GPU";
    case cudaErrorInitializationError:
      return "initialization error";
    case cudaErrorECCUncorrectable:
      return "uncorrectable ECC error encountered";
    default:
      return "an error of the phantom GPU";
  }
}

}  // extern "C"
