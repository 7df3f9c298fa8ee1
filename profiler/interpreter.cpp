#include "interpreter.hpp"

#include <ATen/ATen.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <utility>

#include "compiled_graph.hpp"
#include "program_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Frame = std::vector<c10::IValue>;

at::Tensor wrapped_number(const c10::Scalar& number) {
  at::Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

// Autocast for a region, as torch.autocast enters and leaves it. The cache of cast weights is on,
// as it is in eager, whatever the export wrote down; it is cleared when the outermost region ends.
class AutocastRegion {
 public:
  AutocastRegion(at::DeviceType device, bool enabled, std::optional<at::ScalarType> dtype)
      : device_(device),
        was_enabled_(at::autocast::is_autocast_enabled(device)),
        was_cache_enabled_(at::autocast::is_autocast_cache_enabled()),
        previous_dtype_(at::autocast::get_autocast_dtype(device)) {
    at::autocast::set_autocast_enabled(device_, enabled);
    if (dtype) at::autocast::set_autocast_dtype(device_, *dtype);
    at::autocast::increment_nesting();
    at::autocast::set_autocast_cache_enabled(true);
  }
  AutocastRegion(const AutocastRegion&) = delete;
  AutocastRegion& operator=(const AutocastRegion&) = delete;
  ~AutocastRegion() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, previous_dtype_);
    at::autocast::set_autocast_cache_enabled(was_cache_enabled_);
  }

 private:
  at::DeviceType device_;
  bool was_enabled_;
  bool was_cache_enabled_;
  at::ScalarType previous_dtype_;
};

c10::IValue number_from(const Number& number, const Frame& frame) {
  if (const auto* slot = std::get_if<Slot>(&number)) return frame[static_cast<std::size_t>(*slot)];
  if (const auto* integer = std::get_if<std::int64_t>(&number)) return *integer;
  return std::get<double>(number);
}

struct ArgumentMaker {
  const Frame& frame;

  c10::IValue operator()(const Constant& constant) const { return constant.value; }
  c10::IValue operator()(const FromSlot& from) const {
    const c10::IValue& value = frame[static_cast<std::size_t>(from.slot)];
    if (from.want == FromSlot::Want::tensor && !value.isTensor()) {
      return wrapped_number(value.toScalar());
    }
    if (from.want == FromSlot::Want::floating) return value.toScalar().toDouble();
    return value;
  }
  c10::IValue operator()(const NumberAsTensor& number) const {
    return wrapped_number(number.number);
  }
  c10::IValue operator()(const TensorListOf& tensors) const {
    if (tensors.is_optional) {
      c10::List<std::optional<at::Tensor>> list;
      for (const Slot slot : tensors.slots) {
        list.push_back(slot == no_slot
                           ? std::nullopt
                           : std::optional(frame[static_cast<std::size_t>(slot)].toTensor()));
      }
      return list;
    }
    c10::List<at::Tensor> list;
    for (const Slot slot : tensors.slots) {
      list.push_back(frame[static_cast<std::size_t>(slot)].toTensor());
    }
    return list;
  }
  c10::IValue operator()(const NumberListOf& numbers) const {
    if (numbers.is_floating) {
      c10::List<double> list;
      for (const Number& number : numbers.numbers) {
        list.push_back(number_from(number, frame).toScalar().toDouble());
      }
      return list;
    }
    c10::List<std::int64_t> list;
    for (const Number& number : numbers.numbers) {
      list.push_back(number_from(number, frame).toScalar().toLong());
    }
    return list;
  }
};

void keep_result(const CompiledNode::Result& result, c10::IValue value, Frame& frame) {
  if (!result.is_list) {
    if (!result.slots.empty()) frame[static_cast<std::size_t>(result.slots[0])] = std::move(value);
    return;
  }
  std::vector<at::Tensor> list = value.toTensorVector();
  value = c10::IValue();
  for (std::size_t i = 0; i < result.slots.size() && i < list.size(); ++i) {
    frame[static_cast<std::size_t>(result.slots[i])] = std::move(list[i]);
  }
}

// An export leaves out a contiguous() that had nothing to do where it was made. Here the operator
// before it may lay its result out otherwise, and the call, as in eager, does copy.
void make_viewable(c10::IValue& values, const c10::IValue& sizes) {
  const at::Tensor& tensor = values.toTensor();
  const at::DimVector wanted = at::infer_size_dv(sizes.toDimVector(), tensor.numel());
  if (!at::detail::computeStride(tensor.sizes(), tensor.strides(), wanted)) {
    values = tensor.contiguous();
  }
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

class Interpreter::Implementation {
 public:
  Implementation(const Program& program, c10::Device device, std::int64_t seed)
      : program_(program), device_(device) {
    refuse_findings();
    compiled_ = compile_graph(program, program.graph, device);
    values_ = make_program_values(program, device, seed);
  }

  [[nodiscard]] const std::vector<NamedTensor>& static_tensors() const {
    return values_.static_tensors;
  }
  [[nodiscard]] const Node* current_node() const { return current_; }

  Result run(const std::optional<std::string>& loss, Gradients gradients) {
    const std::size_t loss_at = choose_loss(loss);
    const at::AutoGradMode grad(gradients == Gradients::on);
    Frame outputs = run_graph(compiled_, values_.inputs);
    Result result;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].isTensor()) continue;
      if (i != loss_at) {
        result.outputs.push_back(outputs[i].toTensor());
        continue;
      }
      const bool is_sum = loss == "sum";
      result.loss = is_sum ? outputs[i].toTensor().sum() : outputs[i].toTensor();
    }
    return result;
  }

 private:
  void refuse_findings() const {
    for (const ProgramFinding& finding : check_program(program_)) {
      const std::string place =
          finding.node.empty() ? ""
                               : "node '" + finding.node + "' (" + finding.target +
                                     (finding.source.empty() ? "" : ", " + finding.source) + ")";
      throw InputError(program_.path, place, finding.message);
    }
  }

  [[nodiscard]] std::size_t choose_loss(const std::optional<std::string>& wanted) const;
  Frame run_graph(const CompiledGraph& graph, Frame inputs);
  void run_node(const CompiledNode& node, Frame& frame);
  void run_call(const CompiledNode& node, Frame& frame);
  void run_region(const CompiledNode& node, Frame& frame);

  const Program& program_;
  c10::Device device_;
  CompiledGraph compiled_;
  ProgramValues values_;
  const Node* current_ = nullptr;
};

std::size_t Interpreter::Implementation::choose_loss(
    const std::optional<std::string>& wanted) const {
  std::vector<std::size_t> scalars;
  std::string listed;
  for (std::size_t i = 0; i < program_.graph.outputs.size(); ++i) {
    const auto* name = std::get_if<TensorName>(&program_.graph.outputs[i]);
    if (name == nullptr) continue;
    const auto meta = program_.graph.tensors.find(name->name);
    if (meta == program_.graph.tensors.end() || !is_floating_point(meta->second.dtype)) continue;
    listed += (listed.empty() ? "" : ", ") + name->name;
    if (wanted == name->name || wanted == "sum") return i;
    const bool is_loss = i < program_.output_specs.size() &&
                         program_.output_specs[i].kind == OutputSpec::Kind::loss_output;
    if (is_loss && !wanted) return i;
    const bool is_scalar = std::all_of(meta->second.sizes.begin(), meta->second.sizes.end(),
                                       [](std::int64_t size) { return size == 1; });
    if (is_scalar) scalars.push_back(i);
  }
  if (wanted) {
    throw UsageError(program_.path + " has no floating-point output '" + *wanted +
                     "'; --loss takes sum or one of: " + listed);
  }
  if (scalars.size() == 1) return scalars.front();
  throw UsageError(
      program_.path +
      (scalars.empty() ? " has no scalar output to be the loss"
                       : " has several scalar outputs that could be the loss") +
      "; name it with --loss NAME, or sum the first output with --loss sum (outputs: " + listed +
      ")");
}

Frame Interpreter::Implementation::run_graph(const CompiledGraph& graph, Frame inputs) {
  Frame frame(graph.slot_count);
  for (std::size_t i = 0; i < graph.inputs.size() && i < inputs.size(); ++i) {
    frame[static_cast<std::size_t>(graph.inputs[i])] = std::move(inputs[i]);
  }
  inputs.clear();
  for (const CompiledNode& node : graph.nodes) {
    const Node* const caller = std::exchange(current_, node.node);
    try {
      run_node(node, frame);
    } catch (const c10::OutOfMemoryError&) {
      current_ = caller;  // no fault of the node's
      throw;
    } catch (const c10::Error& error) {
      current_ = caller;
      const std::string source = innermost_source_line(node.node->stack_trace);
      throw DeviceError(program_.path + ": node '" + node.node->name + "' (" + node.node->target +
                        (source.empty() ? "" : ", " + source) +
                        "): " + first_line(error.what_without_backtrace()));
    }
    current_ = caller;
    for (const Slot slot : node.last_uses) frame[static_cast<std::size_t>(slot)] = c10::IValue();
  }
  Frame outputs;
  for (const Slot slot : graph.outputs) {
    outputs.push_back(slot == no_slot ? c10::IValue() : frame[static_cast<std::size_t>(slot)]);
  }
  return outputs;
}

void Interpreter::Implementation::run_node(const CompiledNode& node, Frame& frame) {
  switch (node.kind) {
    case CompiledNode::Kind::call:
      return run_call(node, frame);
    case CompiledNode::Kind::symbolic: {
      std::vector<c10::IValue> operands;
      for (const ArgumentPlan& argument : node.arguments) {
        operands.push_back(std::visit(ArgumentMaker{frame}, argument));
      }
      keep_result(node.results.at(0), node.symbolic(operands), frame);
      return;
    }
    case CompiledNode::Kind::grad_region:
    case CompiledNode::Kind::autocast_region:
      return run_region(node, frame);
  }
}

void Interpreter::Implementation::run_call(const CompiledNode& node, Frame& frame) {
  torch::jit::Stack stack;
  stack.reserve(node.arguments.size());
  for (const ArgumentPlan& argument : node.arguments) {
    stack.push_back(std::visit(ArgumentMaker{frame}, argument));
  }
  if (node.is_view) make_viewable(stack.at(0), stack.at(1));
  node.op->callBoxed(stack);
  for (std::size_t i = 0; i < node.results.size() && i < stack.size(); ++i) {
    keep_result(node.results[i], std::move(stack[i]), frame);
  }
}

void Interpreter::Implementation::run_region(const CompiledNode& node, Frame& frame) {
  Frame operands;
  for (const ArgumentPlan& argument : node.arguments) {
    operands.push_back(std::visit(ArgumentMaker{frame}, argument));
  }
  // What nobody reads after the region must be able to die inside it.
  for (const Slot slot : node.last_uses) frame[static_cast<std::size_t>(slot)] = c10::IValue();
  Frame outputs;
  if (node.kind == CompiledNode::Kind::grad_region) {
    const at::AutoGradMode grad(node.enabled);
    outputs = run_graph(*node.body, std::move(operands));
  } else {
    const AutocastRegion autocast(device_.type(), node.enabled, node.dtype);
    outputs = run_graph(*node.body, std::move(operands));
  }
  // The region's results are one list, or as many results as the body has outputs.
  std::size_t next = 0;
  for (const CompiledNode::Result& result : node.results) {
    for (const Slot slot : result.slots) {
      if (next < outputs.size()) frame[static_cast<std::size_t>(slot)] = std::move(outputs[next++]);
    }
    if (result.slots.empty()) ++next;
  }
}

Interpreter::Interpreter(const Program& program, c10::Device device, std::int64_t seed)
    : implementation_(std::make_unique<Implementation>(program, device, seed)) {}
Interpreter::~Interpreter() = default;

const std::vector<NamedTensor>& Interpreter::static_tensors() const {
  return implementation_->static_tensors();
}

Interpreter::Result Interpreter::run(const std::optional<std::string>& loss, Gradients gradients) {
  return implementation_->run(loss, gradients);
}

const Node* Interpreter::current_node() const { return implementation_->current_node(); }

}  // namespace tidemark
