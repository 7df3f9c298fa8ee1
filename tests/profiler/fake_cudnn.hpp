// A stand-in for libcudnn, as far as a device is described: the real one needs a GPU for that.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <string>

namespace tidemark {

struct FakeCudnn {
  std::size_t version = CUDNN_VERSION;
  std::string error;         // why it makes no descriptor; empty: it does
  std::string description;   // with the terminating zero that cuDNN counts
  std::int32_t device = -1;  // that was asked for
  int descriptors = 0;       // that were made and not destroyed
};

}  // namespace tidemark

extern "C" tidemark::FakeCudnn* fake_cudnn();
