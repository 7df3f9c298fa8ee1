#include "card_description.hpp"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>

#include <array>
#include <cctype>

#include "library_functions.hpp"

namespace tidemark {

namespace {

// The first version that describes devices.
constexpr std::size_t least_cudnn_version = 90800;

// cuDNN's graph API, as far as it is needed here, and a descriptor of a device.
class DeviceDescriptor {
 public:
  DeviceDescriptor() = default;
  DeviceDescriptor(const DeviceDescriptor&) = delete;
  DeviceDescriptor& operator=(const DeviceDescriptor&) = delete;
  ~DeviceDescriptor() {
    if (descriptor_ != nullptr) destroy_(descriptor_);
  }

  // The rest may be called where this is true.
  [[nodiscard]] bool find_functions(void* library) {
    LibraryFunctions functions(library);
    functions.find(version_, "cudnnGetVersion");
    functions.find(create_, "cudnnBackendCreateDescriptor");
    functions.find(destroy_, "cudnnBackendDestroyDescriptor");
    functions.find(set_, "cudnnBackendSetAttribute");
    functions.find(finalize_, "cudnnBackendFinalize");
    functions.find(get_, "cudnnBackendGetAttribute");
    functions.find(last_error_, "cudnnGetLastErrorString");
    return functions.is_complete();
  }

  [[nodiscard]] std::size_t version() const { return version_(); }

  [[nodiscard]] bool make(std::int32_t device) {
    return create_(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &descriptor_) == CUDNN_STATUS_SUCCESS &&
           set_(descriptor_, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &device) ==
               CUDNN_STATUS_SUCCESS &&
           finalize_(descriptor_) == CUDNN_STATUS_SUCCESS;
  }

  // Of a descriptor that was made. Empty: there is none.
  [[nodiscard]] std::string text() const {
    std::int64_t size = 0;
    if (get(0, size, nullptr) != CUDNN_STATUS_SUCCESS || size <= 0) return "";
    std::string text(static_cast<std::size_t>(size), '\0');
    if (get(size, size, text.data()) != CUDNN_STATUS_SUCCESS) return "";
    return text.substr(0, text.find('\0'));
  }

  [[nodiscard]] std::string last_error() const {
    std::array<char, 512> text{};
    last_error_(text.data(), text.size() - 1);
    return text.data();
  }

 private:
  [[nodiscard]] cudnnStatus_t get(std::int64_t room, std::int64_t& size, void* to) const {
    return get_(descriptor_, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, room,
                &size, to);
  }

  decltype(&cudnnGetVersion) version_ = nullptr;
  decltype(&cudnnBackendCreateDescriptor) create_ = nullptr;
  decltype(&cudnnBackendDestroyDescriptor) destroy_ = nullptr;
  decltype(&cudnnBackendSetAttribute) set_ = nullptr;
  decltype(&cudnnBackendFinalize) finalize_ = nullptr;
  decltype(&cudnnBackendGetAttribute) get_ = nullptr;
  decltype(&cudnnGetLastErrorString) last_error_ = nullptr;
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

std::string version_text(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
}

// "NVIDIA GeForce RTX 4090" is "nvidia-geforce-rtx-4090".
std::string profile_name(const std::string& device_name) {
  std::string name;
  for (const char letter : device_name) {
    const auto byte = static_cast<unsigned char>(letter);
    if (std::isalnum(byte) != 0) {
      name += static_cast<char>(std::tolower(byte));
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  if (!name.empty() && name.back() == '-') name.pop_back();
  return name;
}

KernelLimits limits_of(const cudaDeviceProp& properties) {
  return {
      .shared_memory_per_block = static_cast<Bytes>(properties.sharedMemPerBlock),
      .shared_memory_per_block_optin = static_cast<Bytes>(properties.sharedMemPerBlockOptin),
      .shared_memory_reserved_per_block = static_cast<Bytes>(properties.reservedSharedMemPerBlock),
      .shared_memory_per_multiprocessor = static_cast<Bytes>(properties.sharedMemPerMultiprocessor),
      .registers_per_multiprocessor = properties.regsPerMultiprocessor,
      .threads_per_multiprocessor = properties.maxThreadsPerMultiProcessor,
      .blocks_per_multiprocessor = properties.maxBlocksPerMultiProcessor};
}

// 0 where the driver does not say.
std::int64_t clock_khz(cudaDeviceAttr attribute, c10::DeviceIndex device) {
  int khz = 0;
  if (cudaDeviceGetAttribute(&khz, attribute, device) != cudaSuccess) cudaGetLastError();
  return khz;
}

}  // namespace

GpuProfile describe_card(const CudaBackend& backend) {
  const c10::DeviceIndex device = backend.device().index();
  const cudaDeviceProp& properties = *at::cuda::getDeviceProperties(device);
  GpuProfile card;
  card.name = profile_name(properties.name);
  card.device_name = properties.name;
  card.compute_capability = {.major = properties.major, .minor = properties.minor};
  card.total_memory = backend.total_bytes();
  card.context_memory = backend.taken_outside();
  card.multiprocessors = properties.multiProcessorCount;
  card.l2_cache = properties.l2CacheSize;
  card.memory_bus_bits = properties.memoryBusWidth;
  card.clock_khz = clock_khz(cudaDevAttrClockRate, device);
  card.memory_clock_khz = clock_khz(cudaDevAttrMemoryClockRate, device);
  card.limits = limits_of(properties);
  return card;
}

std::optional<std::string> own_cudnn_description(std::int32_t device, std::string& reason,
                                                 const char* library) {
  // Of the whole process: on a phantom, its stand-ins come first there.
  void* opened = dlopen(library, RTLD_NOW);
  DeviceDescriptor descriptor;
  if (opened == nullptr || !descriptor.find_functions(opened)) {
    reason = "libcudnn.so.9 is not there, or not all of it";
    return std::nullopt;
  }
  if (descriptor.version() < least_cudnn_version) {
    reason = "cuDNN " + version_text(descriptor.version()) + " is too old, " +
             version_text(least_cudnn_version) + " describes devices";
    return std::nullopt;
  }
  std::string text = descriptor.make(device) ? descriptor.text() : "";
  if (text.empty()) {
    reason = "cuDNN gives none: " + descriptor.last_error();
    return std::nullopt;
  }
  return text;
}

}  // namespace tidemark
