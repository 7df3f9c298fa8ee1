// A stand-in for libcupti whose records the tests write: what CUPTI does depends on the machine.
#pragma once

#include <cupti.h>

#include <cstdint>
#include <set>
#include <vector>

namespace tidemark {

struct FakeCupti {
  CUpti_ActivityKind refused = CUPTI_ACTIVITY_KIND_INVALID;  // with insufficient privileges
  std::uint64_t now = 0;
  std::size_t dropped = 0;  // told with the next buffer
  std::set<CUpti_ActivityKind> enabled;
  std::vector<std::uint64_t> pushed;
  std::uint32_t next_correlation = 1;

  // A kernel as if launched now by the calling thread, with what CUPTI tells of its launch.
  void launch_kernel(std::uint64_t begin, std::uint64_t end);

  CUpti_BuffersCallbackRequestFunc request = nullptr;
  CUpti_BuffersCallbackCompleteFunc complete = nullptr;
  std::vector<CUpti_ActivityKernel10> kernels;
  std::vector<CUpti_ActivityExternalCorrelation> correlations;
};

inline void FakeCupti::launch_kernel(std::uint64_t begin, std::uint64_t end) {
  if (!enabled.contains(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL)) return;
  CUpti_ActivityKernel10 kernel{};
  kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  kernel.correlationId = next_correlation++;
  kernel.start = begin;
  kernel.end = end;
  kernels.push_back(kernel);
  // CUPTI tells which outside call a launch belongs to where it records the launch itself.
  if (pushed.empty() || !enabled.contains(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION) ||
      !enabled.contains(CUPTI_ACTIVITY_KIND_RUNTIME)) {
    return;
  }
  CUpti_ActivityExternalCorrelation correlation{};
  correlation.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
  correlation.externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
  correlation.externalId = pushed.back();
  correlation.correlationId = kernel.correlationId;
  correlations.push_back(correlation);
}

}  // namespace tidemark

extern "C" tidemark::FakeCupti* fake_cupti();
