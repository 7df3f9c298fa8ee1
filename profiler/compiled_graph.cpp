#include "compiled_graph.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "call_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

constexpr const char* metadata_assert = "torch.ops.aten._assert_tensor_metadata.default";
constexpr const char* grad_region = "torch.ops.higher_order.wrap_with_set_grad_enabled";
constexpr const char* autocast_region = "torch.ops.higher_order.wrap_with_autocast";

at::MemoryFormat to_torch_memory_format(MemoryFormat format) {
  switch (format) {
    case MemoryFormat::contiguous:
      return at::MemoryFormat::Contiguous;
    case MemoryFormat::preserve:
      return at::MemoryFormat::Preserve;
    case MemoryFormat::channels_last:
      return at::MemoryFormat::ChannelsLast;
    case MemoryFormat::channels_last_3d:
      return at::MemoryFormat::ChannelsLast3d;
  }
  return at::MemoryFormat::Contiguous;
}

// What the schema wants, without "optional".
c10::TypePtr plain_type(c10::TypePtr type) {
  while (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type;
}

class Compiler {
 public:
  Compiler(const Program& program, const Graph& graph, c10::Device device)
      : program_(program), graph_(graph), device_(device) {}

  CompiledGraph compile() {
    for (const ProgramArgument& input : graph_.inputs)
      compiled_.inputs.push_back(input_slot(input));
    for (const Node& node : graph_.nodes) {
      node_ = &node;
      if (node.target != metadata_assert) compiled_.nodes.push_back(compile_node(node));
    }
    for (const ProgramArgument& output : graph_.outputs) {
      compiled_.outputs.push_back(output_slot(output));
    }
    compiled_.slot_count = slots_.size();
    find_last_uses();
    return std::move(compiled_);
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    const std::string source = node_ == nullptr ? "" : innermost_source_line(node_->stack_trace);
    const std::string place = node_ == nullptr ? "graph"
                                               : "node '" + node_->name + "' (" + node_->target +
                                                     (source.empty() ? "" : ", " + source) + ")";
    throw InputError(program_.path, place, problem);
  }

  Slot define(const std::string& name) {
    const auto slot = static_cast<Slot>(slots_.size());
    return slots_.emplace(name, slot).first->second;
  }
  Slot use(const std::string& name) const {
    const auto found = slots_.find(name);
    if (found == slots_.end()) {
      refuse("reads '" + name + "', which nothing before it makes; export the model again");
    }
    return found->second;
  }
  Slot input_slot(const ProgramArgument& input);
  Slot output_slot(const ProgramArgument& output) const;
  CompiledNode compile_node(const Node& node);
  void compile_call(const Node& node, CompiledNode& compiled);
  void compile_region(const Node& node, CompiledNode& compiled);
  ArgumentPlan plan(const ProgramArgument& argument, const c10::Argument& formal);
  ArgumentPlan plan_number(const c10::IValue& value, const c10::TypePtr& type,
                           const c10::Argument& formal) const;
  ArgumentPlan plan_list(const ProgramArgument& argument, const c10::TypePtr& type) const;
  ArgumentPlan plan_operand(const ProgramArgument& argument) const;
  void find_last_uses();

  const Program& program_;
  const Graph& graph_;
  c10::Device device_;
  const Node* node_ = nullptr;
  std::map<std::string, Slot> slots_;
  CompiledGraph compiled_;
};

Slot Compiler::input_slot(const ProgramArgument& input) {
  if (const auto* tensor = std::get_if<TensorName>(&input)) return define(tensor->name);
  if (const auto* number = std::get_if<SymbolicInt>(&input)) {
    if (const auto* symbol = std::get_if<SymbolName>(number)) return define(symbol->name);
  }
  if (const auto* number = std::get_if<SymbolicFloat>(&input)) {
    if (const auto* symbol = std::get_if<SymbolName>(number)) return define(symbol->name);
  }
  if (const auto* symbol = std::get_if<SymbolName>(&input)) return define(symbol->name);
  return define("unnamed input " + std::to_string(compiled_.inputs.size()));
}

Slot Compiler::output_slot(const ProgramArgument& output) const {
  if (const auto* tensor = std::get_if<TensorName>(&output)) return use(tensor->name);
  if (const auto* number = std::get_if<SymbolicInt>(&output)) {
    if (const auto* symbol = std::get_if<SymbolName>(number)) return use(symbol->name);
  }
  return no_slot;
}

CompiledNode Compiler::compile_node(const Node& node) {
  CompiledNode compiled;
  compiled.node = &node;
  if (node.target == grad_region || node.target == autocast_region) {
    compile_region(node, compiled);
  } else if (SymbolicOperator symbolic = find_symbolic_operator(node.target)) {
    compiled.kind = CompiledNode::Kind::symbolic;
    compiled.symbolic = symbolic;
    for (const NodeInput& input : node.inputs) {
      compiled.arguments.push_back(plan_operand(input.argument));
    }
  } else {
    compile_call(node, compiled);
  }
  for (const NodeOutput& output : node.outputs) {
    CompiledNode::Result result{.is_list = output.kind == NodeOutput::Kind::tensor_list,
                                .slots = {}};
    for (const std::string& name : output.names) result.slots.push_back(define(name));
    compiled.results.push_back(std::move(result));
  }
  return compiled;
}

// "torch.ops.aten.add.Tensor" is the operator aten::add with the overload Tensor.
void Compiler::compile_call(const Node& node, CompiledNode& compiled) {
  const std::string& target = node.target;
  const std::size_t overload = target.rfind('.');
  const std::size_t name =
      overload == std::string::npos ? overload : target.rfind('.', overload - 1);
  const std::size_t space = name == std::string::npos ? name : target.rfind('.', name - 1);
  if (space == std::string::npos) {
    refuse("is no operator of PyTorch; replace it in the model by PyTorch operators");
  }
  const std::string op_name = target.substr(space + 1, name - space - 1) +
                              "::" + target.substr(name + 1, overload - name - 1);
  const std::string overload_name = target.substr(overload + 1);
  const auto op = c10::Dispatcher::singleton().findSchema(
      {op_name, overload_name == "default" ? "" : overload_name});
  if (!op) {
    refuse(
        "is not in this LibTorch; it is registered from Python or an extension, so choose "
        "another implementation in the model's configuration");
  }
  compiled.op = *op;
  compiled.is_view = op->schema().name() == "aten::view" && op->schema().overload_name().empty();
  const auto& formals = op->schema().arguments();
  std::vector<const NodeInput*> given(formals.size(), nullptr);
  for (const NodeInput& input : node.inputs) {
    const auto formal = std::find_if(
        formals.begin(), formals.end(),
        [&](const c10::Argument& candidate) { return candidate.name() == input.name; });
    if (formal == formals.end()) {
      refuse("has an argument '" + input.name +
             "' that this LibTorch does not know; export the "
             "model with PyTorch 2.11");
    }
    given[static_cast<std::size_t>(formal - formals.begin())] = &input;
  }
  for (std::size_t i = 0; i < formals.size(); ++i) {
    if (given[i] != nullptr) {
      compiled.arguments.push_back(plan(given[i]->argument, formals[i]));
    } else {
      compiled.arguments.emplace_back(Constant{formals[i].default_value().value_or(c10::IValue())});
    }
  }
}

// (enabled, body, operands...) or (device, dtype, enabled, cache_enabled, body, operands...).
void Compiler::compile_region(const Node& node, CompiledNode& compiled) {
  const bool is_autocast = node.target == autocast_region;
  compiled.kind =
      is_autocast ? CompiledNode::Kind::autocast_region : CompiledNode::Kind::grad_region;
  const std::size_t body_at = is_autocast ? 4 : 1;
  if (node.inputs.size() <= body_at) refuse("has too few arguments; export the model again");
  const auto* body = std::get_if<SubgraphArgument>(&node.inputs[body_at].argument);
  const auto* enabled = std::get_if<bool>(&node.inputs[is_autocast ? 2 : 0].argument);
  if (body == nullptr || body->graph == nullptr || enabled == nullptr) {
    refuse("has arguments of an unknown form; export the model with PyTorch 2.11");
  }
  compiled.enabled = *enabled;
  if (is_autocast) {
    if (const auto* dtype = std::get_if<ScalarType>(&node.inputs[1].argument)) {
      compiled.dtype = to_torch(*dtype);
    }
  }
  compiled.body =
      std::make_shared<const CompiledGraph>(compile_graph(program_, *body->graph, device_));
  for (std::size_t i = body_at + 1; i < node.inputs.size(); ++i) {
    compiled.arguments.push_back(plan_operand(node.inputs[i].argument));
  }
}

ArgumentPlan Compiler::plan_operand(const ProgramArgument& argument) const {
  if (const auto* tensor = std::get_if<TensorName>(&argument)) {
    return FromSlot{.slot = use(tensor->name), .want = FromSlot::Want::as_is};
  }
  if (const auto* number = std::get_if<SymbolicInt>(&argument)) {
    if (const auto* symbol = std::get_if<SymbolName>(number))
      return FromSlot{.slot = use(symbol->name)};
    return Constant{std::get<std::int64_t>(*number)};
  }
  if (const auto* number = std::get_if<SymbolicFloat>(&argument)) {
    if (const auto* symbol = std::get_if<SymbolName>(number))
      return FromSlot{.slot = use(symbol->name)};
    return Constant{std::get<double>(*number)};
  }
  if (const auto* symbol = std::get_if<SymbolName>(&argument))
    return FromSlot{.slot = use(symbol->name)};
  if (const auto* flag = std::get_if<bool>(&argument)) return Constant{*flag};
  if (std::holds_alternative<NullValue>(argument)) return Constant{};
  refuse("has an operand of a kind that is not supported; rewrite that part of the model");
}

// Python accepts an int for a float, a number for a tensor, one int for a list of them; the boxed
// convention does not.
ArgumentPlan Compiler::plan_number(const c10::IValue& value, const c10::TypePtr& type,
                                   const c10::Argument& formal) const {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return NumberAsTensor{value.toScalar()};
    case c10::TypeKind::FloatType:
      return Constant{value.toScalar().toDouble()};
    case c10::TypeKind::ListType: {
      const auto count = static_cast<std::size_t>(formal.N().value_or(1));
      NumberListOf list;
      list.is_floating =
          type->expectRef<c10::ListType>().getElementType()->kind() == c10::TypeKind::FloatType;
      for (std::size_t i = 0; i < count; ++i) {
        list.numbers.emplace_back(value.isDouble() ? Number(value.toDouble())
                                                   : Number(value.toScalar().toLong()));
      }
      return list;
    }
    default:
      return Constant{value};
  }
}

ArgumentPlan Compiler::plan_list(const ProgramArgument& argument, const c10::TypePtr& type) const {
  const auto list_type = type->cast<c10::ListType>();
  if (list_type == nullptr) refuse("is given a list where its schema wants none; export again");
  const c10::TypePtr element = list_type->getElementType();
  if (const auto* tensors = std::get_if<std::vector<TensorName>>(&argument)) {
    TensorListOf list{.slots = {}, .is_optional = element->kind() == c10::TypeKind::OptionalType};
    for (const TensorName& tensor : *tensors) list.slots.push_back(use(tensor.name));
    return list;
  }
  if (const auto* tensors = std::get_if<std::vector<std::optional<TensorName>>>(&argument)) {
    TensorListOf list{.slots = {}, .is_optional = true};
    for (const auto& tensor : *tensors) {
      list.slots.push_back(tensor ? use(tensor->name) : no_slot);
    }
    return list;
  }
  if (const auto* flags = std::get_if<std::vector<bool>>(&argument)) {
    c10::List<bool> list;
    for (const bool flag : *flags) list.push_back(flag);
    return Constant{c10::IValue(list)};
  }
  if (const auto* strings = std::get_if<std::vector<std::string>>(&argument)) {
    return Constant{c10::IValue(*strings)};
  }
  NumberListOf list;
  list.is_floating = element->kind() == c10::TypeKind::FloatType;
  const auto add = [&](const auto& number) {
    if (const auto* symbol = std::get_if<SymbolName>(&number)) {
      list.numbers.emplace_back(use(symbol->name));
    } else {
      list.numbers.emplace_back(std::get<0>(number));
    }
  };
  if (const auto* ints = std::get_if<std::vector<SymbolicInt>>(&argument)) {
    std::for_each(ints->begin(), ints->end(), add);
  } else if (const auto* floats = std::get_if<std::vector<SymbolicFloat>>(&argument)) {
    std::for_each(floats->begin(), floats->end(), add);
  }
  return list;
}

ArgumentPlan Compiler::plan(const ProgramArgument& argument, const c10::Argument& formal) {
  const c10::TypePtr type = plain_type(formal.type());
  const auto slot = [&](const std::string& name, bool is_number) {
    FromSlot from{.slot = use(name), .want = FromSlot::Want::as_is};
    if (is_number && type->kind() == c10::TypeKind::TensorType) from.want = FromSlot::Want::tensor;
    if (is_number && type->kind() == c10::TypeKind::FloatType) from.want = FromSlot::Want::floating;
    return from;
  };
  if (std::holds_alternative<NullValue>(argument)) return Constant{};
  if (const auto* tensor = std::get_if<TensorName>(&argument)) return slot(tensor->name, false);
  if (const auto* number = std::get_if<SymbolicInt>(&argument)) {
    if (const auto* symbol = std::get_if<SymbolName>(number)) return slot(symbol->name, true);
    return plan_number(std::get<std::int64_t>(*number), type, formal);
  }
  if (const auto* number = std::get_if<SymbolicFloat>(&argument)) {
    if (const auto* symbol = std::get_if<SymbolName>(number)) return slot(symbol->name, true);
    return plan_number(std::get<double>(*number), type, formal);
  }
  if (const auto* symbol = std::get_if<SymbolName>(&argument)) return slot(symbol->name, true);
  if (const auto* flag = std::get_if<bool>(&argument)) return plan_number(*flag, type, formal);
  if (const auto* text = std::get_if<std::string>(&argument)) return Constant{*text};
  if (const auto* dtype = std::get_if<ScalarType>(&argument)) {
    return Constant{static_cast<std::int64_t>(to_torch(*dtype))};
  }
  if (std::holds_alternative<Layout>(argument)) {
    return Constant{static_cast<std::int64_t>(at::kStrided)};
  }
  if (const auto* format = std::get_if<MemoryFormat>(&argument)) {
    return Constant{static_cast<std::int64_t>(to_torch_memory_format(*format))};
  }
  // Exports bake in the device that they were made on.
  if (std::holds_alternative<DeviceSpec>(argument)) return Constant{device_};
  const bool is_refused = std::holds_alternative<UnsupportedArgument>(argument) ||
                          std::holds_alternative<SubgraphArgument>(argument);
  if (is_refused) refuse("has an argument '" + formal.name() + "' that is not supported");
  return plan_list(argument, type);
}

// An interpreter that kept every value to the end would hold activations that eager has long let
// go.
void Compiler::find_last_uses() {
  std::vector<std::size_t> last(compiled_.slot_count, compiled_.nodes.size());
  const auto note = [&](Slot slot, std::size_t n) {
    if (slot != no_slot) last[static_cast<std::size_t>(slot)] = n;
  };
  for (std::size_t n = 0; n < compiled_.nodes.size(); ++n) {
    const CompiledNode& node = compiled_.nodes[n];
    for (const ArgumentPlan& argument : node.arguments) {
      if (const auto* from = std::get_if<FromSlot>(&argument)) note(from->slot, n);
      if (const auto* tensors = std::get_if<TensorListOf>(&argument)) {
        for (const Slot slot : tensors->slots) note(slot, n);
      }
      if (const auto* numbers = std::get_if<NumberListOf>(&argument)) {
        for (const Number& number : numbers->numbers) {
          if (const auto* slot = std::get_if<Slot>(&number)) note(*slot, n);
        }
      }
    }
    for (const CompiledNode::Result& result : node.results) {
      for (const Slot slot : result.slots) note(slot, n);
    }
  }
  for (const Slot slot : compiled_.outputs) note(slot, compiled_.nodes.size());
  for (std::size_t slot = 0; slot < last.size(); ++slot) {
    if (last[slot] < compiled_.nodes.size()) {
      compiled_.nodes[last[slot]].last_uses.push_back(static_cast<Slot>(slot));
    }
  }
}

}  // namespace

CompiledGraph compile_graph(const Program& program, const Graph& graph, c10::Device device) {
  return Compiler(program, graph, device).compile();
}

}  // namespace tidemark
