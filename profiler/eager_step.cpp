#include "eager_step.hpp"

#include <ATen/ATen.h>

#include <cstring>
#include <string>
#include <utility>

#include "tidemark/errors.hpp"

namespace tidemark {

EagerStep::EagerStep(Backend& backend, const Program& program, const RecordOptions& options)
    : backend_(backend), options_(options), interpreter_(program, backend.device(), options.seed) {
  for (const NamedTensor& entry : interpreter_.static_tensors()) {
    statics_.push_back({entry.name, entry.role, entry.tensor});
    if (entry.role == Role::parameter && entry.tensor.requires_grad()) {
      parameters_.push_back(statics_.back());
    }
  }
  if (options.accumulate_gradients) make_gradients();
  for (const StaticTensor& entry : statics_) keep_initial(entry);
  if (options.optimizer != Optimizer::none) make_optimizer();
}

void EagerStep::reset() {
  for (std::size_t i = 0; i < initial_tensors_.size(); ++i) {
    const std::vector<std::uint8_t>& bytes = initial_values_[i].bytes;
    if (bytes.empty()) continue;
    void* data = initial_tensors_[i].storage().mutable_data();
    if (initial_tensors_[i].device().is_cpu()) {
      std::memcpy(data, bytes.data(), bytes.size());
    } else {
      backend_.upload(data, bytes.data(), bytes.size());
    }
  }
  if (!options_.accumulate_gradients) {
    for (const StaticTensor& parameter : parameters_) parameter.tensor.mutable_grad().reset();
  }
  at::manual_seed(static_cast<std::uint64_t>(options_.seed));
}

void EagerStep::check_loss(const at::Tensor& loss) {
  if (loss.requires_grad()) return;
  throw InputError(
      "the loss carries no gradient: the parameters are frozen, or the model was exported under "
      "torch.no_grad or with its own checkpointing on; export it in training mode without them");
}

void EagerStep::optimize() {
  if (optimizer_) optimizer_->step();
}

void EagerStep::run() {
  at::Tensor loss = forward().loss;
  check_loss(loss);
  loss.backward();
  optimize();
}

void EagerStep::keep_initial(const StaticTensor& entry) {
  const c10::Storage& storage = entry.tensor.storage();
  if (!storages_.insert(storage.unsafeGetStorageImpl()).second) return;
  const bool is_elsewhere = storage.device().type() != backend_.device().type();
  if (!is_elsewhere) static_bytes_ += static_cast<Bytes>(storage.nbytes());
  if (!backend_.computes() && !is_elsewhere) return;
  initial_tensors_.push_back(entry.tensor);
  initial_values_.push_back({entry.name, entry.role, bytes_of(backend_, storage)});
}

// The optimizer's states are what a first step leaves; the parameters are as before it.
void EagerStep::make_optimizer() {
  std::vector<at::Tensor> tensors;
  for (const StaticTensor& parameter : parameters_) tensors.push_back(parameter.tensor);
  optimizer_ = make_optimizer_step(options_.optimizer, options_.optimizer_form, tensors);
  reset();
  run();
  for (const OptimizerState& state : optimizer_->states()) {
    const std::string name = parameters_[state.parameter].name + "." + state.name;
    statics_.push_back({name, Role::optimizer_state, state.tensor});
    keep_initial(statics_.back());
  }
  reset();
}

void EagerStep::make_gradients() {
  for (const StaticTensor& parameter : parameters_) {
    at::Tensor gradient = at::empty_like(parameter.tensor).normal_(0, 0.01);
    parameter.tensor.mutable_grad() = gradient;
    statics_.push_back({parameter.name + ".grad", Role::gradient, gradient});
  }
}

}  // namespace tidemark
