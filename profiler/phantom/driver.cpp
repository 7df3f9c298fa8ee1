// The CUDA driver (libcuda.so.1): the calls that must fill in an answer; make_stubs.py writes all
// others. Libraries of the wheel name it as a dependency, and PyTorch's expandable segments call
// it: there reserved addresses and the memory behind them are separate things, and the memory is
// what is counted.
#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "machine_interface.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace {

template <typename Handle>
void set_handle(Handle* handle, void* object) {
  std::memcpy(handle, &object, sizeof object);
}

// One context for each device; a context's address tells its device.
char contexts[tidemark::phantom::most_devices];

struct Memory {
  std::size_t bytes;
  int device;
  int owners;  // the program that created it, and each mapping of it
};

// Memory that cuMemCreate made, by handle; and where it is mapped.
struct Mappings {
  std::mutex mutex;
  unsigned long long next_handle = 1;
  std::map<CUmemGenericAllocationHandle, Memory> memory;
  std::map<CUdeviceptr, CUmemGenericAllocationHandle> mapped;
};

Mappings& mappings() {
  static Mappings& all = *new Mappings;
  return all;
}

// Memory is gone when its creator released it and nothing maps it any more.
void drop_owner(Mappings& all, CUmemGenericAllocationHandle handle) {
  const auto found = all.memory.find(handle);
  if (found == all.memory.end() || --found->second.owners > 0) return;
  tidemark_phantom_give_back(found->second.device, found->second.bytes);
  all.memory.erase(found);
}

void* newest_form(const char* name) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return nullptr;
  for (const char* suffix : {"_v4", "_v3", "_v2", ""}) {
    if (void* function = dlsym(driver, (std::string(name) + suffix).c_str())) return function;
  }
  return nullptr;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  *count = tidemark_phantom_device_count();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= tidemark_phantom_device_count()) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      *value = 1;
      break;
    // Sharing memory between processes, and between cards, is left out.
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
      *value = 0;
      break;
    // The numbers of the runtime's attributes are the driver's.
    default:
      return tidemark_phantom_device_attribute(value, attribute, device) == 0
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_INVALID_DEVICE;
  }
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  set_handle(context, &contexts[tidemark_phantom_current_device()]);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  *device = tidemark_phantom_current_device();
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  set_handle(context, &contexts[device]);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}

// Triton asks it of every tensor that it passes to a kernel; not of host memory.
CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr pointer) {
  const int device = tidemark_phantom_device_of(reinterpret_cast<const void*>(pointer));
  if (device < 0) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      std::memcpy(value, &pointer, sizeof pointer);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      std::memcpy(value, &device, sizeof device);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      set_handle(static_cast<CUcontext*>(value), &contexts[device]);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: {
      const CUmemorytype type = CU_MEMORYTYPE_DEVICE;
      std::memcpy(value, &type, sizeof type);
      return CUDA_SUCCESS;
    }
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of the phantom GPU";
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** text) { return cuGetErrorString(error, text); }

// Both versions exist as symbols; the header maps the name to the second.
CUresult cuGetProcAddress(const char* name, void** function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult* status) {
  *function = newest_form(name);
  if (status != nullptr) {
    *status =
        *function != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  return *function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

// ---- Virtual memory -----------------------------------------------------------------------------

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* properties,
                                       CUmemAllocationGranularity_flags option) {
  *granularity = tidemark_phantom_segment_bytes();
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* address, size_t bytes, size_t alignment,
                             CUdeviceptr wanted, unsigned long long flags) {
  *address = reinterpret_cast<CUdeviceptr>(tidemark_phantom_reserve(bytes));
  return *address != 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  tidemark_phantom_release(reinterpret_cast<void*>(address), bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                     const CUmemAllocationProp* properties, unsigned long long flags) {
  const int device = properties->location.id;
  if (tidemark_phantom_take(device, bytes) == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  Mappings& all = mappings();
  const std::lock_guard lock(all.mutex);
  *handle = all.next_handle++;
  all.memory[*handle] = {.bytes = bytes, .device = device, .owners = 1};
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Mappings& all = mappings();
  const std::lock_guard lock(all.mutex);
  drop_owner(all, handle);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags) {
  Mappings& all = mappings();
  const std::lock_guard lock(all.mutex);
  const auto found = all.memory.find(handle);
  if (found == all.memory.end()) return CUDA_ERROR_INVALID_VALUE;
  ++found->second.owners;
  all.mapped[address] = handle;
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc* access,
                        size_t count) {
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  tidemark_phantom_forget(reinterpret_cast<void*>(address), bytes);
  Mappings& all = mappings();
  const std::lock_guard lock(all.mutex);
  auto mapping = all.mapped.lower_bound(address);
  while (mapping != all.mapped.end() && mapping->first < address + bytes) {
    drop_owner(all, mapping->second);
    mapping = all.mapped.erase(mapping);
  }
  return CUDA_SUCCESS;
}

// A private interface that only NVIDIA's own libraries use. "Success" without a table crashes them.
CUresult cuGetExportTable(const void** table, const CUuuid* id) {
  *table = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}

}  // extern "C"

#undef cuGetProcAddress
extern "C" CUresult cuGetProcAddress(const char* name, void** function, int version,
                                     cuuint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
