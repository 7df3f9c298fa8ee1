// A recorded call made ready to run again and again: the operator looked up, constants boxed, only
// the tensors left to be made anew over the storages of the moment.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark {

class BoxedCall {
 public:
  // Throws InputError naming the operator where this PyTorch does not have it, or where the call
  // does not fit its schema. `device`: where the step runs. The trace must outlive the call.
  // `gradients` off: in the operator's form of that kind, which it must have.
  BoxedCall(const StepTrace& trace, OpId id, Gradients gradients, c10::Device device);

  // `bound`: by storage of the trace, what stands for it now; nullptr: only its shape matters.
  // `made`: by position in Op::creates, what the call made. Throws DeviceError naming the operator
  // where it gives another result than the recorded one.
  void run(const std::vector<const c10::Storage*>& bound, std::vector<c10::Storage>& made);

 private:
  struct View {
    std::size_t storage = 0;
    c10::Device device;
    caffe2::TypeMeta type;
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
    std::int64_t offset = 0;
    bool is_wrapped_number = false;
    bool is_conjugated = false;
    bool is_negated = false;
  };
  enum class Kind : std::uint8_t { constant, tensor, tensor_list, optional_tensor_list };
  struct Argument {
    Kind kind = Kind::constant;
    c10::IValue constant;
    std::vector<std::optional<View>> tensors;
  };
  struct Result {
    bool is_defined = false;
    std::int32_t created = -1;  // position in Op::creates; -1: an argument's storage
    Bytes bytes = 0;
  };

  BoxedCall(const StepTrace& trace, const Op& op, const Call& call, std::string title,
            c10::Device device);
  [[nodiscard]] View prepare_view(const TensorView& view) const;
  [[nodiscard]] Argument prepare(const CallValue& value, const c10::Type& type) const;
  static at::Tensor make(const View& view, const std::vector<const c10::Storage*>& bound);
  static c10::IValue make(const Argument& argument, const std::vector<const c10::Storage*>& bound);
  void keep_results(std::vector<c10::Storage>& made);
  void keep(const at::Tensor& tensor, const Result& expected,
            std::vector<c10::Storage>& made) const;

  const StepTrace& trace_;
  c10::Device device_;
  c10::OperatorHandle op_;
  std::string title_;
  std::vector<Argument> arguments_;
  std::vector<Result> results_;
  std::size_t created_ = 0;
  torch::jit::Stack stack_;
};

}  // namespace tidemark
