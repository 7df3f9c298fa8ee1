// Torch has a CHECK of its own, which Catch's replaces: its headers come first.
// clang-format off
#include "card_description.hpp"

#include <catch2/catch.hpp>
#include <string>
// clang-format on

#include "fake_cudnn.hpp"
#include "fake_library.hpp"

namespace tidemark {
namespace {

FakeCudnn& fake() { return test::renewed<FakeCudnn>(TIDEMARK_FAKE_CUDNN, "fake_cudnn"); }

TEST_CASE("cuDNN's description of a device is taken as it is", "[cudnn]") {
  FakeCudnn& cudnn = fake();
  cudnn.description = std::string("{\"deviceVer\": 900}\0", 19);
  std::string reason;
  const auto text = own_cudnn_description(2, reason, TIDEMARK_FAKE_CUDNN);
  REQUIRE(text);
  CHECK(*text == "{\"deviceVer\": 900}");
  CHECK(reason.empty());
  CHECK(cudnn.device == 2);
  CHECK(cudnn.descriptors == 0);
}

TEST_CASE("where cuDNN describes no device the reason is told", "[cudnn]") {
  FakeCudnn& cudnn = fake();
  cudnn.description = "{}";
  const auto reason_of = [](const char* library) {
    std::string reason;
    CHECK_FALSE(own_cudnn_description(0, reason, library));
    return reason;
  };
  CHECK(reason_of("libcudnn.so.none") == "libcudnn.so.9 is not there, or not all of it");
  CHECK(reason_of("libz.so.1") == "libcudnn.so.9 is not there, or not all of it");
  cudnn.version = 90799;
  CHECK(reason_of(TIDEMARK_FAKE_CUDNN) == "cuDNN 9.7 is too old, 9.8 describes devices");
  cudnn.version = 90800;
  cudnn.error = "cudaErrorECCUncorrectable";
  CHECK(reason_of(TIDEMARK_FAKE_CUDNN) == "cuDNN gives none: cudaErrorECCUncorrectable");
  cudnn.error.clear();
  cudnn.description.clear();
  CHECK(reason_of(TIDEMARK_FAKE_CUDNN) == "cuDNN gives none: ");
  CHECK(cudnn.descriptors == 0);
}

}  // namespace
}  // namespace tidemark
