// One program's autograd step, run again and again from the same values.
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "backend.hpp"
#include "interpreter.hpp"
#include "optimizer_step.hpp"
#include "recorder.hpp"
#include "step_values.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

class EagerStep {
 public:
  // The program, the options and the backend must outlive the step.
  EagerStep(Backend& backend, const Program& program, const RecordOptions& options);

  [[nodiscard]] const std::vector<StaticTensor>& statics() const { return statics_; }
  [[nodiscard]] const std::vector<StaticTensor>& parameters() const { return parameters_; }
  // On the device.
  [[nodiscard]] Bytes static_bytes() const { return static_bytes_; }
  [[nodiscard]] const Node* current_node() const { return interpreter_.current_node(); }
  // The static values before the step, where the device keeps values.
  [[nodiscard]] std::vector<StaticValue> take_initial_values() {
    return std::move(initial_values_);
  }

  // Values and gradients as before the step; the generators as torch.manual_seed leaves them.
  void reset();
  [[nodiscard]] Interpreter::Result forward(Gradients gradients = Gradients::on) {
    return interpreter_.run(options_.loss, gradients);
  }
  // Throws InputError where there is nothing to differentiate.
  static void check_loss(const at::Tensor& loss);
  void optimize();
  void run();

 private:
  void keep_initial(const StaticTensor& entry);
  void make_optimizer();
  void make_gradients();

  Backend& backend_;
  const RecordOptions& options_;
  Interpreter interpreter_;
  std::unique_ptr<OptimizerStep> optimizer_;
  std::vector<StaticTensor> statics_;
  std::vector<StaticTensor> parameters_;
  std::set<const c10::StorageImpl*> storages_;
  std::vector<at::Tensor> initial_tensors_;  // aligned with initial_values_
  std::vector<StaticValue> initial_values_;
  Bytes static_bytes_ = 0;
};

}  // namespace tidemark
