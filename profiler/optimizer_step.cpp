#include "optimizer_step.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

// torch.optim's defaults.
constexpr double learning_rate = 1e-3;
constexpr double beta1 = 0.9;
constexpr double beta2 = 0.999;
constexpr double epsilon = 1e-8;
constexpr double weight_decay = 1e-2;

// Tensors that step together: torch.optim's multi-tensor forms group them by element type.
struct Group {
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> gradients;
  std::vector<at::Tensor> averages;
  std::vector<at::Tensor> squares;
  std::vector<at::Tensor> steps;
};

class Sgd final : public OptimizerStep {
 public:
  Sgd(OptimizerForm form, std::vector<at::Tensor> parameters)
      : form_(form), parameters_(std::move(parameters)) {}

  void step() override {
    const c10::NoGradGuard no_grad;
    if (form_ == OptimizerForm::loop) {
      for (const at::Tensor& parameter : parameters_) {
        if (!parameter.grad().defined()) continue;
        at::Tensor(parameter).add_(parameter.grad(), -learning_rate);
      }
      return;
    }
    for (const auto& [parameters, gradients] : groups()) {
      if (form_ == OptimizerForm::foreach) {
        at::_foreach_add_(parameters, gradients, -learning_rate);
      } else {
        at::_fused_sgd_(parameters, gradients, {}, /*weight_decay=*/0, /*momentum=*/0,
                        learning_rate, /*dampening=*/0, /*nesterov=*/false, /*maximize=*/false,
                        /*is_first_step=*/false);
      }
    }
  }

  [[nodiscard]] std::vector<OptimizerState> states() const override { return {}; }

 private:
  using Tensors = std::vector<at::Tensor>;
  [[nodiscard]] std::vector<std::pair<Tensors, Tensors>> groups() const {
    std::vector<std::pair<Tensors, Tensors>> groups;
    for (const at::Tensor& parameter : parameters_) {
      if (!parameter.grad().defined()) continue;
      auto group = groups.begin();
      while (group != groups.end() && group->first.front().dtype() != parameter.dtype()) ++group;
      if (group == groups.end()) group = groups.emplace(groups.end());
      group->first.push_back(parameter);
      group->second.push_back(parameter.grad());
    }
    return groups;
  }

  OptimizerForm form_;
  std::vector<at::Tensor> parameters_;
};

class AdamW final : public OptimizerStep {
 public:
  AdamW(OptimizerForm form, std::vector<at::Tensor> parameters)
      : form_(form), parameters_(std::move(parameters)), states_(parameters_.size()) {}

  void step() override {
    const c10::NoGradGuard no_grad;
    make_states();
    if (form_ == OptimizerForm::loop) {
      at::Tensor denominator;
      for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (parameters_[i].grad().defined()) step_one(parameters_[i], states_[i], denominator);
      }
      return;
    }
    std::vector<at::Tensor> roots;
    for (Group& group : groups()) {
      if (form_ == OptimizerForm::foreach) {
        step_foreach(group, roots);
      } else {
        step_fused(group);
      }
    }
  }

  [[nodiscard]] std::vector<OptimizerState> states() const override {
    std::vector<OptimizerState> named;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (!states_[i].step.defined()) continue;
      named.push_back({"step", i, states_[i].step});
      named.push_back({"exp_avg", i, states_[i].average});
      named.push_back({"exp_avg_sq", i, states_[i].square});
    }
    return named;
  }

 private:
  struct State {
    at::Tensor step;
    at::Tensor average;
    at::Tensor square;
  };

  // A fused kernel reads the counter where the parameter is; the other forms read it on the host.
  void make_states() {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      State& state = states_[i];
      if (state.step.defined() || !parameters_[i].grad().defined()) continue;
      const bool is_fused = form_ == OptimizerForm::fused;
      const c10::Device place = is_fused ? parameters_[i].device() : c10::Device(c10::kCPU);
      state.step = at::zeros({}, at::TensorOptions(at::kFloat).device(place));
      state.average = at::zeros_like(parameters_[i], at::MemoryFormat::Preserve);
      state.square = at::zeros_like(parameters_[i], at::MemoryFormat::Preserve);
    }
  }

  // `denominator` lives until the next one is made, as the variable in torch's loop does.
  static void step_one(at::Tensor parameter, State& state, at::Tensor& denominator) {
    const at::Tensor& gradient = parameter.grad();
    state.step.add_(1);
    parameter.mul_(1 - learning_rate * weight_decay);
    state.average.lerp_(gradient, 1 - beta1);
    state.square.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
    const auto count = state.step.item<double>();
    const double step_size = learning_rate / (1 - std::pow(beta1, count));
    const double correction = std::pow(1 - std::pow(beta2, count), 0.5);
    at::Tensor quotient = state.square.sqrt().div(correction);
    denominator = quotient.add_(epsilon);
    quotient.reset();
    parameter.addcdiv_(state.average, denominator, -step_size);
  }

  static void step_foreach(Group& group, std::vector<at::Tensor>& roots) {
    at::_foreach_add_(group.steps, at::scalar_tensor(1.0, at::kFloat), 1.0);
    at::_foreach_mul_(group.parameters, 1 - learning_rate * weight_decay);
    at::_foreach_lerp_(group.averages, group.gradients, 1 - beta1);
    at::_foreach_mul_(group.squares, beta2);
    at::_foreach_addcmul_(group.squares, group.gradients, group.gradients, 1 - beta2);
    std::vector<double> counts;
    for (const at::Tensor& step : group.steps) counts.push_back(step.item<double>());
    // torch reads the counters once for each of the two corrections.
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = group.steps[i].item<double>();
    std::vector<at::Scalar> step_sizes;
    std::vector<at::Scalar> corrections;
    for (const double count : counts) {
      step_sizes.emplace_back((learning_rate / (1 - std::pow(beta1, count))) * -1);
      corrections.emplace_back(std::pow(1 - std::pow(beta2, count), 0.5));
    }
    roots = at::_foreach_sqrt(group.squares);
    at::_foreach_div_(roots, corrections);
    at::_foreach_add_(roots, epsilon);
    at::_foreach_addcdiv_(group.parameters, group.averages, roots, step_sizes);
  }

  static void step_fused(Group& group) {
    at::_foreach_add_(group.steps, 1);
    at::_fused_adamw_(group.parameters, group.gradients, group.averages, group.squares, {},
                      group.steps, learning_rate, beta1, beta2, weight_decay, epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }

  [[nodiscard]] std::vector<Group> groups() const {
    std::vector<Group> groups;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor& parameter = parameters_[i];
      if (!parameter.grad().defined()) continue;
      auto group = groups.begin();
      while (group != groups.end() && group->parameters.front().dtype() != parameter.dtype()) {
        ++group;
      }
      if (group == groups.end()) group = groups.emplace(groups.end());
      group->parameters.push_back(parameter);
      group->gradients.push_back(parameter.grad());
      group->averages.push_back(states_[i].average);
      group->squares.push_back(states_[i].square);
      group->steps.push_back(states_[i].step);
    }
    return groups;
  }

  OptimizerForm form_;
  std::vector<at::Tensor> parameters_;
  std::vector<State> states_;
};

}  // namespace

std::unique_ptr<OptimizerStep> make_optimizer_step(Optimizer optimizer, OptimizerForm form,
                                                   std::vector<at::Tensor> parameters) {
  const bool is_on_gpu = std::all_of(parameters.begin(), parameters.end(),
                                     [](const at::Tensor& tensor) { return tensor.is_cuda(); });
  const OptimizerForm usual = is_on_gpu ? OptimizerForm::foreach : OptimizerForm::loop;
  const OptimizerForm chosen = form == OptimizerForm::automatic ? usual : form;
  switch (optimizer) {
    case Optimizer::none:
      return nullptr;
    case Optimizer::sgd:
      return std::make_unique<Sgd>(chosen, std::move(parameters));
    case Optimizer::adamw:
      return std::make_unique<AdamW>(chosen, std::move(parameters));
  }
  throw InternalError("an optimizer of an unknown kind");
}

}  // namespace tidemark
