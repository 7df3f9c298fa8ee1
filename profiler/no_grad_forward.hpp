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
// forward once more that way and says how its operators and their memory differ from the recorded
// ones; nullopt: they do not. Leaves the step as reset() does. `statics`: what exists before it.
[[nodiscard]] std::optional<std::string> describe_no_grad_forward(
    Backend& backend, EagerStep& step, const std::vector<StaticTensor>& statics,
    const StepTrace& recorded);

}  // namespace tidemark
