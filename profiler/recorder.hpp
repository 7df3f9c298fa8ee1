// Writes one training step down as a StepTrace while it runs.
//
// What is recorded is the outermost operator call below which autograd is switched off: calling
// the same list again without autograd computes the same values. Whether an operator is composite
// cannot be read from its registrations alone, but a composite one calls others while autograd is
// still on:
//
//   linear            composite: its children stand for it
//     addmm           recorded; what it calls below autograd is part of it
//       empty         its memory is the recorded call's
//
// Storages are known by their data address between two events of the allocator. A reference would
// keep them alive and hide when the step releases them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend.hpp"
#include "tidemark/program.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// What exists before the step and belongs to the caller.
struct StaticTensor {
  std::string name;
  Role role = Role::input;
  at::Tensor tensor;
};

// Which node of a program runs now; nullptr: none is known.
using CurrentNode = std::function<const Node*()>;

// Observes the calling thread, and autograd's threads while they work for it, from its construction
// to finish(). One at a time.
class StepRecorder {
 public:
  StepRecorder(Backend& backend, const std::vector<StaticTensor>& static_tensors,
               CurrentNode current_node);
  StepRecorder(const StepRecorder&) = delete;
  StepRecorder& operator=(const StepRecorder&) = delete;
  ~StepRecorder();

  void set_phase(Phase phase);
  // Must be called while the tensors are alive.
  void mark_loss(const at::Tensor& loss);
  void mark_output(const at::Tensor& output);
  void mark_gradient(const at::Tensor& parameter, const at::Tensor& gradient);

  // Called when the step has released everything that it does not keep. Fills operators, storages,
  // modules, keep, loss, gradients and outputs. Throws InputError naming the operator, its module
  // and its line where something cannot be replayed.
  [[nodiscard]] StepTrace finish();

 private:
  class Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace tidemark
