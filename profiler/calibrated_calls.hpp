// The calls by which a calibration measures each kind of work.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "tidemark/time_model.hpp"

namespace tidemark {

using CalibratedCall = std::function<at::Tensor()>;  // returns what it made

// One size of a call: how much it does, what it reads, and how it is made of that.
struct CalibratedSize {
  double amount = 0;
  std::vector<std::vector<std::int64_t>> operands;  // sizes
  std::function<CalibratedCall(const std::vector<at::Tensor>&)> bind;
  double made_elements = 0;  // of the result, where it may be larger than what is read
};

struct CalibratedCurve {
  Work work = Work::memory;
  double width = 0;
  std::vector<CalibratedSize> sizes;  // by ascending amount
};

// For processors and GPUs alike, from a few microseconds to more than either should be given. The
// amounts of `memory` are for that element size.
[[nodiscard]] std::vector<CalibratedCurve> calibrated_curves(std::int64_t element_bytes);

}  // namespace tidemark
