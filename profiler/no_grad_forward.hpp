#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend.hpp"
#include "eager_step.hpp"
#include "recorder.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// The reentrant method first runs a segment with gradients off, and some operators choose other
// kernels then: efficient attention keeps no log-sum-exp, oneDNN's LSTM no workspace. Runs the
// forward once more that way and gives each operator of `recorded` that differs its form
// (Op::no_grad). Returns a note where another operator runs in a recorded one's place: from there
// on the recorded forms stay, since no other computes the same values. `statics`: what exists
// before the step. Leaves the step as reset() does.
[[nodiscard]] std::optional<std::string> record_no_grad_forms(
    Backend& backend, EagerStep& step, const std::vector<StaticTensor>& statics,
    StepTrace& recorded);

}  // namespace tidemark
