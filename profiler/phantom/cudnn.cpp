// cuDNN. PyTorch's convolutions and attention use its graph API, whose planning half runs on the
// CPU: given a description of a device, the real library ranks engines and computes the workspace
// of each plan (NVIDIA documents this as deviceless ahead-of-time compilation). So descriptors go
// to the real cuDNN; those that would ask the GPU get the profile's description instead; plans do
// not execute.
#include <cudnn.h>
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include "machine.hpp"
#include "tidemark/io.hpp"
#include "tidemark/phantom_remedy.hpp"
#include "unanswered.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace tidemark::phantom {

namespace {

struct GraphApi {
  decltype(&cudnnBackendCreateDescriptor) create;
  decltype(&cudnnBackendDestroyDescriptor) destroy;
  decltype(&cudnnBackendSetAttribute) set;
  decltype(&cudnnBackendGetAttribute) get;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnGetErrorString) error_string;
  decltype(&cudnnGetLastErrorString) last_error;
  decltype(&cudnnGetVersion) version;
  decltype(&cudnnGetProperty) property;
};

// Torch would take a status for an operator that cuDNN has no engine for, and try the next one.
[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "tidemark: the phantom GPU cannot go on: %s\n", sentence.c_str());
  std::_Exit(EXIT_FAILURE);
}

template <typename Function>
Function find_real(const char* name) {
  // libtorch_cuda has loaded it already; its functions are merely hidden by ours.
  static void* library = dlopen("libcudnn.so.9", RTLD_NOW);
  void* address = library == nullptr ? nullptr : dlsym(library, name);
  if (address == nullptr) fail(std::string("libcudnn.so.9 has no ") + name);
  Function function = nullptr;
  std::memcpy(&function, &address, sizeof address);
  return function;
}

const GraphApi& real() {
  static const GraphApi api{
      .create = find_real<decltype(GraphApi::create)>("cudnnBackendCreateDescriptor"),
      .destroy = find_real<decltype(GraphApi::destroy)>("cudnnBackendDestroyDescriptor"),
      .set = find_real<decltype(GraphApi::set)>("cudnnBackendSetAttribute"),
      .get = find_real<decltype(GraphApi::get)>("cudnnBackendGetAttribute"),
      .finalize = find_real<decltype(GraphApi::finalize)>("cudnnBackendFinalize"),
      .error_string = find_real<decltype(GraphApi::error_string)>("cudnnGetErrorString"),
      .last_error = find_real<decltype(GraphApi::last_error)>("cudnnGetLastErrorString"),
      .version = find_real<decltype(GraphApi::version)>("cudnnGetVersion"),
      .property = find_real<decltype(GraphApi::property)>("cudnnGetProperty")};
  return api;
}

cudnnStatus_t set_description(cudnnBackendDescriptor_t device) {
  const std::string description = cudnn_description(Machine::get().profile());
  return real().set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                    std::ssize(description), description.data());
}

cudnnBackendDescriptor_t described_device() {
  static const cudnnBackendDescriptor_t device = [] {
    cudnnBackendDescriptor_t descriptor = nullptr;
    const bool is_accepted =
        real().create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &descriptor) == CUDNN_STATUS_SUCCESS &&
        set_description(descriptor) == CUDNN_STATUS_SUCCESS &&
        real().finalize(descriptor) == CUDNN_STATUS_SUCCESS;
    if (!is_accepted) {
      std::array<char, 512> reason{};
      real().last_error(reason.data(), reason.size());
      const GpuProfile& profile = Machine::get().profile();
      fail("cuDNN refuses the description of the " + profile.device_name + " (" + reason.data() +
           "); correct compute_capability or cudnn_description in the profile " + profile.name);
    }
    return descriptor;
  }();
  return device;
}

// The attribute through which a kind of descriptor takes a device; 0 where it asks none.
int device_attribute(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return CUDNN_ATTR_ENGINEHEUR_DEVICEPROP;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      return CUDNN_ATTR_ENGINE_DEVICEPROP;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP;
    default:
      return 0;
  }
}

cudnnStatus_t no_scratch(std::size_t* size) {
  static Unanswered call("cuDNN's batch norm scratch, counted as 0 bytes");
  call.modelled();
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}

template <typename Handle>
void make_handle(Handle* handle) {
  void* object = new char;
  std::memcpy(handle, &object, sizeof object);
}

}  // namespace

}  // namespace tidemark::phantom

using tidemark::phantom::make_handle;
using tidemark::phantom::no_scratch;
using tidemark::phantom::real;

extern "C" {

// ---- Graph API ----------------------------------------------------------------------------------

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  const cudnnStatus_t status = real().create(type, descriptor);
  const int attribute = tidemark::phantom::device_attribute(type);
  if (status != CUDNN_STATUS_SUCCESS || attribute == 0) return status;
  const cudnnBackendDescriptor_t device = tidemark::phantom::described_device();
  return real().set(*descriptor, static_cast<cudnnBackendAttributeName_t>(attribute),
                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &device);
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  return real().destroy(descriptor);
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* elements) {
  // A device is asked what it is: the card of the profile.
  if (name == CUDNN_ATTR_DEVICEPROP_DEVICE_ID || name == CUDNN_ATTR_DEVICEPROP_HANDLE) {
    return tidemark::phantom::set_description(descriptor);
  }
  // A real handle would need a GPU.
  if (type == CUDNN_TYPE_HANDLE) return CUDNN_STATUS_SUCCESS;
  return real().set(descriptor, name, type, count, elements);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room,
                                       int64_t* count, void* elements) {
  return real().get(descriptor, name, type, room, count, elements);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return real().finalize(descriptor);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
  return CUDNN_STATUS_SUCCESS;
}

// ---- Handles and versions -----------------------------------------------------------------------

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  make_handle(handle);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  *stream = nullptr;
  return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion() { return real().version(); }

cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int* value) {
  return real().property(type, value);
}

size_t cudnnGetCudartVersion() { return CUDART_VERSION; }

// The planner refuses in words of its own; the status of a refused call is "internal error", as
// PyTorch adds guesses of its own to "not supported".
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_INTERNAL_ERROR ? tidemark::phantom_remedy("cudnn").data()
                                               : real().error_string(status);
}

void cudnnGetLastErrorString(char* message, size_t size) { real().last_error(message, size); }

// ---- Batch normalisation ------------------------------------------------------------------------

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* descriptor) {
  make_handle(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  delete reinterpret_cast<char*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type,
                                         int dimensions, const int sizes[], const int strides[]) {
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops,
    const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t z,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t* size) {
  return no_scratch(size);
}

cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops,
    const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t y,
    const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t* size) {
  return no_scratch(size);
}

cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops,
    const cudnnActivationDescriptor_t activation, const cudnnTensorDescriptor_t x, size_t* size) {
  return no_scratch(size);
}

}  // extern "C"
