#include "peak_differences.hpp"

#include <cstdlib>
#include <optional>

namespace tidemark {

std::vector<PeakDifference> peak_differences(const StepFigures& measured,
                                             const StepFigures& predicted) {
  std::vector<PeakDifference> all;
  const auto add = [&](const char* peak, std::optional<Bytes> a, std::optional<Bytes> b) {
    if (a && b) all.push_back({peak, std::abs(*a - *b)});
  };
  add("peak", measured.live_peak_bytes, predicted.live_peak_bytes);
  add("allocated peak", measured.allocated_peak_bytes, predicted.allocated_peak_bytes);
  add("reserved peak", measured.reserved_peak_bytes, predicted.reserved_peak_bytes);
  add("first step's reserved peak", measured.first_reserved_peak_bytes,
      predicted.first_reserved_peak_bytes);
  return all;
}

}  // namespace tidemark
