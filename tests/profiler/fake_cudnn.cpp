#include "fake_cudnn.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

using tidemark::FakeCudnn;

extern "C" {

FakeCudnn* fake_cudnn() {
  static FakeCudnn fake;
  return &fake;
}

size_t cudnnGetVersion() { return fake_cudnn()->version; }

void cudnnGetLastErrorString(char* message, size_t size) {
  std::snprintf(message, size, "%s", fake_cudnn()->error.c_str());
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  if (type != CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) return CUDNN_STATUS_NOT_SUPPORTED;
  *descriptor = fake_cudnn();
  ++fake_cudnn()->descriptors;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t) {
  --fake_cudnn()->descriptors;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* elements) {
  const bool is_device =
      name == CUDNN_ATTR_DEVICEPROP_DEVICE_ID && type == CUDNN_TYPE_INT32 && count == 1;
  if (!is_device) return CUDNN_STATUS_BAD_PARAM;
  std::memcpy(&fake_cudnn()->device, elements, sizeof(std::int32_t));
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t) {
  return fake_cudnn()->error.empty() ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room,
                                       int64_t* count, void* elements) {
  if (name != CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION || type != CUDNN_TYPE_CHAR) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  const std::string& text = fake_cudnn()->description;
  *count = static_cast<int64_t>(text.size());
  if (room > 0) std::memcpy(elements, text.data(), std::min<size_t>(text.size(), size_t(room)));
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
