// Models written by hand with LibTorch, and their recorded training steps.
#pragma once

#include <torch/torch.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend_cpu.hpp"
#include "counting_allocator.hpp"
#include "executor.hpp"
#include "recorder.hpp"
#include "step_values.hpp"
#include "storage_table.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

inline Backend& backend() {
  static CpuBackend cpu;
  return cpu;
}

struct Model {
  std::vector<StaticTensor> statics;
  std::function<at::Tensor()> loss;
  // Runs under no_grad after backward, as an optimizer does.
  std::function<void()> optimizer = [] {};
};

struct RecordedModel {
  StepTrace trace;
  std::vector<StaticTensor> statics;
  std::vector<std::vector<std::uint8_t>> gradients;  // autograd's, whole storages
  std::vector<std::uint8_t> loss;
  Bytes eager_live_peak_bytes = 0;
};

inline FillStorage values_of(const RecordedModel& model) {
  return fill_from(model.trace, values_of(backend(), model.statics));
}

inline std::vector<StaticTensor> statics_of(const torch::nn::Module& module,
                                            const std::vector<StaticTensor>& inputs) {
  std::vector<StaticTensor> statics;
  for (const auto& entry : module.named_parameters()) {
    statics.push_back({entry.key(), Role::parameter, entry.value()});
  }
  for (const auto& entry : module.named_buffers()) {
    statics.push_back({entry.key(), Role::buffer, entry.value()});
  }
  statics.insert(statics.end(), inputs.begin(), inputs.end());
  return statics;
}

class ModelRecording {
 public:
  explicit ModelRecording(Model model) : model_(std::move(model)) {
    for (const StaticTensor& entry : model_.statics) {
      initial_.push_back(bytes_of(backend(), entry.tensor.storage()));
    }
  }

  RecordedModel record() {
    step();
    RecordedModel recorded;
    recorded.eager_live_peak_bytes = eager_peak();
    reset();
    StepRecorder recorder(backend(), model_.statics, {});
    at::Tensor loss = model_.loss();
    recorder.mark_loss(loss);
    recorder.set_phase(Phase::backward);
    loss.backward();
    recorder.set_phase(Phase::optimizer);
    optimize();
    for (const StaticTensor& entry : model_.statics) {
      if (entry.role != Role::parameter || !entry.tensor.grad().defined()) continue;
      recorder.mark_gradient(entry.tensor, entry.tensor.grad());
      recorded.gradients.push_back(bytes_of(backend(), entry.tensor.grad().storage()));
    }
    recorded.loss = bytes_of(backend(), loss.storage());
    recorded.trace = recorder.finish();
    recorded.trace.device.kind = DeviceKind::cpu;
    reset();
    recorded.statics = model_.statics;
    return recorded;
  }

 private:
  void reset() {
    for (std::size_t i = 0; i < initial_.size(); ++i) {
      const at::Tensor& tensor = model_.statics[i].tensor;
      tensor.mutable_grad().reset();
      if (initial_[i].empty()) continue;
      std::memcpy(tensor.storage().mutable_data(), initial_[i].data(), initial_[i].size());
    }
    seed_generator(0);
  }

  void optimize() {
    const torch::NoGradGuard no_grad;
    model_.optimizer();
  }

  void step() {
    reset();
    at::Tensor loss = model_.loss();
    loss.backward();
    optimize();
  }

  Bytes eager_peak() {
    reset();
    CountingAllocator& allocator = CountingAllocator::install();
    const Bytes before = allocator.current_bytes();
    allocator.reset_peak();
    at::Tensor loss = model_.loss();
    loss.backward();
    optimize();
    Bytes statics = 0;
    for (const std::vector<std::uint8_t>& bytes : initial_) {
      statics += static_cast<Bytes>(bytes.size());
    }
    return statics + allocator.peak_bytes() - before;
  }

  Model model_;
  std::vector<std::vector<std::uint8_t>> initial_;
};

inline RecordedModel record(Model model) {
  CountingAllocator::install();
  at::set_num_threads(1);
  return ModelRecording(std::move(model)).record();
}

// ---- models ----------------------------------------------------------------------------------

inline Model multilayer_perceptron() {
  seed_generator(1);
  auto net = torch::nn::Sequential(torch::nn::Linear(16, 64), torch::nn::GELU(),
                                   torch::nn::Dropout(0.5), torch::nn::Linear(64, 64),
                                   torch::nn::ReLU(torch::nn::ReLUOptions(true)),
                                   torch::nn::Linear(64, 10));
  const at::Tensor x = torch::randn({8, 16});
  const at::Tensor y = torch::randint(10, {8});
  return {.statics = statics_of(*net, {{"x", Role::input, x}, {"y", Role::input, y}}),
          .loss = [=]() mutable { return torch::cross_entropy_loss(net->forward(x), y); }};
}

inline Model convolutions() {
  seed_generator(1);
  using torch::nn::Conv2dOptions;
  auto net = torch::nn::Sequential(
      torch::nn::Conv2d(Conv2dOptions(3, 8, 3).padding(1)), torch::nn::BatchNorm2d(8),
      torch::nn::ReLU(), torch::nn::MaxPool2d(2),
      torch::nn::Conv2d(Conv2dOptions(8, 16, 3).padding(1)), torch::nn::BatchNorm2d(16),
      torch::nn::ReLU(torch::nn::ReLUOptions(true)), torch::nn::AdaptiveAvgPool2d(1),
      torch::nn::Flatten(), torch::nn::Linear(16, 10));
  const at::Tensor x = torch::randn({4, 3, 16, 16});
  const at::Tensor y = torch::randint(10, {4});
  return {.statics = statics_of(*net, {{"x", Role::input, x}, {"y", Role::input, y}}),
          .loss = [=]() mutable { return torch::cross_entropy_loss(net->forward(x), y); }};
}

// Attention with tied embedding and head, views, and dropout inside it if `dropout` is not 0.
inline Model attention(double dropout) {
  seed_generator(1);
  auto embedding = torch::nn::Embedding(50, 32);
  auto norm = torch::nn::LayerNorm(torch::nn::LayerNormOptions({32}));
  auto qkv = torch::nn::Linear(32, 96);
  auto net = torch::nn::Sequential(embedding, norm, qkv);
  const at::Tensor x = torch::randint(50, {2, 24});
  const at::Tensor y = torch::randint(50, {48});
  return {.statics = statics_of(*net, {{"x", Role::input, x}, {"y", Role::input, y}}),
          .loss = [=]() mutable {
            at::Tensor h = embedding->forward(x);
            const std::vector<at::Tensor> parts = qkv->forward(norm->forward(h)).chunk(3, -1);
            const auto heads = [](const at::Tensor& t) {
              return t.view({2, 24, 4, 8}).transpose(1, 2);
            };
            const at::Tensor attended = at::scaled_dot_product_attention(
                heads(parts[0]), heads(parts[1]), heads(parts[2]), {}, dropout, /*is_causal=*/true);
            h = h + attended.transpose(1, 2).reshape({2, 24, 32});
            return torch::cross_entropy_loss(torch::linear(h, embedding->weight).view({48, 50}), y);
          }};
}

// Writes into views, fills, and picks by index.
inline Model in_place_operators() {
  seed_generator(1);
  auto first = torch::nn::Linear(16, 32);
  auto net = torch::nn::Sequential(first);
  const at::Tensor x = torch::randn({8, 16});
  const at::Tensor rows = torch::tensor({0, 2, 4});
  return {.statics = statics_of(*net, {{"x", Role::input, x}, {"rows", Role::input, rows}}),
          .loss = [=]() mutable {
            at::Tensor h = first->forward(x);
            h.select(1, 0).mul_(0.5);
            at::Tensor mask = at::empty_like(h).fill_(2.0);
            h = h.mul(mask);
            h.add_(1.0);
            return h.index({rows}).pow(2).sum();
          }};
}

}  // namespace tidemark
