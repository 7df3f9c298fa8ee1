#include "optimizer_step.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "recorded_model.hpp"

namespace tidemark {
namespace {

using Names = std::vector<std::string>;

// The operators of one step on two parameters, the states being there from an earlier one.
Names operators_of(Optimizer optimizer, OptimizerForm form) {
  CountingAllocator::install();
  const std::vector<at::Tensor> parameters{torch::ones({4, 4}), torch::ones({4})};
  std::vector<StaticTensor> statics;
  for (const at::Tensor& parameter : parameters) {
    parameter.mutable_grad() = torch::ones_like(parameter);
    statics.push_back({"parameter", Role::parameter, parameter});
    statics.push_back({"gradient", Role::gradient, parameter.grad()});
  }
  const auto step = make_optimizer_step(optimizer, form, parameters);
  step->step();
  for (const OptimizerState& state : step->states()) {
    statics.push_back({state.name, Role::optimizer_state, state.tensor});
  }
  StepRecorder recorder(backend(), statics, {});
  recorder.set_phase(Phase::optimizer);
  step->step();
  Names names;
  for (const Op& op : recorder.finish().ops) names.push_back(op.name);
  return names;
}

Names twice(const Names& names) {
  Names both = names;
  both.insert(both.end(), names.begin(), names.end());
  return both;
}

// As a dispatch mode sees torch.optim's second step in Python.
TEST_CASE("each form calls the operators of torch.optim in their order") {
  REQUIRE(operators_of(Optimizer::sgd, OptimizerForm::loop) == twice({"aten::add_"}));
  REQUIRE(operators_of(Optimizer::sgd, OptimizerForm::foreach) == Names{"aten::_foreach_add_"});
  REQUIRE(operators_of(Optimizer::sgd, OptimizerForm::fused) == Names{"aten::_fused_sgd_"});
  REQUIRE(operators_of(Optimizer::adamw, OptimizerForm::loop) ==
          twice({"aten::add_", "aten::mul_", "aten::lerp_", "aten::mul_", "aten::addcmul_",
                 "aten::_local_scalar_dense", "aten::sqrt", "aten::div", "aten::add_",
                 "aten::addcdiv_"}));
  REQUIRE(operators_of(Optimizer::adamw, OptimizerForm::foreach) ==
          Names{"aten::scalar_tensor", "aten::_foreach_add_", "aten::_foreach_mul_",
                "aten::_foreach_lerp_", "aten::_foreach_mul_", "aten::_foreach_addcmul_",
                "aten::_local_scalar_dense", "aten::_local_scalar_dense",
                "aten::_local_scalar_dense", "aten::_local_scalar_dense", "aten::_foreach_sqrt",
                "aten::_foreach_div_", "aten::_foreach_add_", "aten::_foreach_addcdiv_"});
  REQUIRE(operators_of(Optimizer::adamw, OptimizerForm::fused) ==
          Names{"aten::_foreach_add_", "aten::_fused_adamw_"});
}

TEST_CASE("on the CPU the form that torch chooses by itself is the loop") {
  for (const Optimizer optimizer : {Optimizer::sgd, Optimizer::adamw}) {
    REQUIRE(operators_of(optimizer, OptimizerForm::automatic) ==
            operators_of(optimizer, OptimizerForm::loop));
  }
}

TEST_CASE("a step moves a parameter as the method's formula says") {
  const OptimizerForm form =
      GENERATE(OptimizerForm::loop, OptimizerForm::foreach, OptimizerForm::fused);
  const auto after_one_step = [&](Optimizer optimizer) {
    const at::Tensor parameter = torch::full({1}, 2.0, torch::kDouble);
    parameter.mutable_grad() = torch::full({1}, 0.5, torch::kDouble);
    make_optimizer_step(optimizer, form, {parameter})->step();
    return parameter.item<double>();
  };
  REQUIRE(after_one_step(Optimizer::sgd) == Approx(2.0 - 1e-3 * 0.5).epsilon(1e-14));
  // The first corrected averages are the gradient and its square.
  const double decayed = 2.0 * (1 - 1e-3 * 1e-2);
  REQUIRE(after_one_step(Optimizer::adamw) ==
          Approx(decayed - 1e-3 * 0.5 / (0.5 + 1e-8)).epsilon(1e-14));
}

TEST_CASE("states come with a first step, for parameters that have a gradient") {
  const at::Tensor trained = torch::ones({3});
  const at::Tensor frozen = torch::ones({3});
  trained.mutable_grad() = torch::ones({3});
  const auto step = make_optimizer_step(Optimizer::adamw, OptimizerForm::loop, {frozen, trained});
  REQUIRE(step->states().empty());
  step->step();
  const std::vector<OptimizerState> states = step->states();
  REQUIRE(states.size() == 3);
  for (const OptimizerState& state : states) REQUIRE(state.parameter == 1);
  REQUIRE(states.front().name == "step");
  REQUIRE(states.front().tensor.item<float>() == 1.0F);
  REQUIRE(torch::equal(frozen, torch::ones({3})));
}

}  // namespace
}  // namespace tidemark
