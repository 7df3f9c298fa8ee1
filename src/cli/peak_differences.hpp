// Where a measured step's peaks are not the predicted ones.
#pragma once

#include <vector>

#include "tidemark/prediction.hpp"

namespace tidemark {

struct PeakDifference {
  const char* peak;  // "peak", "reserved peak", ...
  Bytes bytes;       // not negative
};

// Of the peaks that both sides know.
[[nodiscard]] std::vector<PeakDifference> peak_differences(const StepFigures& measured,
                                                           const StepFigures& predicted);

}  // namespace tidemark
