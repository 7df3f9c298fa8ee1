// Runs a program's forward through PyTorch's dispatcher under autograd, exactly as eager runs it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/program.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct NamedTensor {
  std::string name;
  Role role = Role::parameter;
  at::Tensor tensor;
};

class Interpreter {
 public:
  // Creates every static tensor on `device`: stored values copied, missing ones made from `seed`;
  // one storage per record, so that tied and shared weights stay so. Operators and conversions of
  // arguments are settled here, once. The program must outlive the interpreter. Throws InputError
  // naming node, target, source line and remedy for what cannot run.
  Interpreter(const Program& program, c10::Device device, std::int64_t seed);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  ~Interpreter();

  // What exists before a step, each once under its first name: parameters, buffers, constants,
  // inputs.
  [[nodiscard]] const std::vector<NamedTensor>& static_tensors() const;

  struct Result {
    at::Tensor loss;
    std::vector<at::Tensor> outputs;  // the program's other tensor outputs
  };
  // Every value is dropped at its last use. `loss` as in RecordOptions. Throws DeviceError naming
  // node, target and source line where an operator fails.
  [[nodiscard]] Result run(const std::optional<std::string>& loss,
                           Gradients gradients = Gradients::on);

  // The innermost node that runs now; nullptr outside run().
  [[nodiscard]] const Node* current_node() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tidemark
