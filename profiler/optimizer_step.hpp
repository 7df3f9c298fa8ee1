// torch.optim's SGD and AdamW with their default options: the same operators in the same order
// (torch/optim/sgd.py, adam.py), so that a recorded step holds what a user's optimizer.step() runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "tidemark/device.hpp"

namespace tidemark {

struct OptimizerState {
  std::string name;  // "exp_avg"
  std::size_t parameter = 0;
  at::Tensor tensor;
};

class OptimizerStep {
 public:
  OptimizerStep() = default;
  OptimizerStep(const OptimizerStep&) = delete;
  OptimizerStep& operator=(const OptimizerStep&) = delete;
  virtual ~OptimizerStep() = default;
  // One step on the parameters' present gradients; parameters without one are left out.
  virtual void step() = 0;
  // In the order of the parameters, as made by torch.optim in its first step.
  [[nodiscard]] virtual std::vector<OptimizerState> states() const = 0;
};

// `automatic` is the loop on the CPU and foreach on a GPU, as in torch. nullptr for
// Optimizer::none.
[[nodiscard]] std::unique_ptr<OptimizerStep> make_optimizer_step(
    Optimizer optimizer, OptimizerForm form, std::vector<at::Tensor> parameters);

}  // namespace tidemark
