// One training step, from the warm one to a checked trace with durations.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "recorder.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

struct ForwardResult {
  at::Tensor loss;
  std::vector<at::Tensor> outputs;  // the loss may be among them
};

struct TrainingStep {
  // Parameters (leaves), buffers and inputs.
  std::vector<StaticTensor> static_tensors;
  std::function<ForwardResult()> forward;
  CurrentNode current_node;
};

// One warm step, three timed ones, the recorded one, and its unscheduled replays. The static
// tensors have their values, and no gradients, before and afterwards.
[[nodiscard]] RecordedStep record_step(const TrainingStep& step, const RecordOptions& options);

}  // namespace tidemark
