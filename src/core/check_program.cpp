// What in a program cannot run, told from the program alone.
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/program.hpp"

namespace tidemark {

namespace {

constexpr std::array<std::string_view, 24> python_targets{
    "_operator.add", "_operator.sub",     "_operator.mul", "_operator.floordiv", "_operator.mod",
    "_operator.pow", "_operator.truediv", "_operator.eq",  "_operator.ne",       "_operator.lt",
    "_operator.le",  "_operator.gt",      "_operator.ge",  "_operator.and_",     "_operator.or_",
    "_operator.neg", "math.trunc",        "torch.sym_int", "torch.sym_float",    "torch.sym_max",
    "torch.sym_min", "torch.sym_ite",     "torch.sym_not", "torch._sym_sqrt"};

constexpr std::string_view operator_prefix = "torch.ops.";
constexpr std::string_view higher_order_prefix = "torch.ops.higher_order.";
constexpr std::string_view grad_region = "torch.ops.higher_order.wrap_with_set_grad_enabled";
constexpr std::string_view autocast_region = "torch.ops.higher_order.wrap_with_autocast";

// The names of tensors that an argument names.
void collect_names(const ProgramArgument& argument, std::vector<std::string>& names) {
  if (const auto* one = std::get_if<TensorName>(&argument)) names.push_back(one->name);
  if (const auto* many = std::get_if<std::vector<TensorName>>(&argument)) {
    for (const TensorName& name : *many) names.push_back(name.name);
  }
  if (const auto* some = std::get_if<std::vector<std::optional<TensorName>>>(&argument)) {
    for (const auto& name : *some) {
      if (name) names.push_back(name->name);
    }
  }
}

class Checker {
 public:
  explicit Checker(const Program& program) : program_(program) {}

  std::vector<ProgramFinding> check() {
    for (const InputSpec& spec : program_.input_specs) {
      if (spec.kind == InputSpec::Kind::unsupported) {
        add(Node{}, "the program takes an input of the kind '" + spec.target +
                        "', which is not supported; export the model without it");
      }
    }
    check_graph(program_.graph);
    check_training_mode();
    check_gradient_flow();
    return std::move(findings_);
  }

 private:
  void add(const Node& node, std::string message) {
    findings_.push_back({.node = node.name,
                         .target = node.target,
                         .source = innermost_source_line(node.stack_trace),
                         .message = std::move(message)});
  }

  void check_graph(const Graph& graph);
  void check_target(const Node& node);
  void note_training_flag(const Node& node);
  void check_training_mode();
  void check_gradient_flow();

  const Program& program_;
  std::vector<ProgramFinding> findings_;
  std::vector<const Node*> evaluation_nodes_;
  bool has_training_node_ = false;
};

void Checker::check_target(const Node& node) {
  const std::string_view target = node.target;
  if (!target.starts_with(operator_prefix)) {
    if (std::find(python_targets.begin(), python_targets.end(), target) == python_targets.end()) {
      add(node, "calls the Python function " + node.target +
                    ", which exists only in Python; replace it in the model by PyTorch operators");
    }
    return;
  }
  if (target.starts_with(higher_order_prefix)) {
    if (target == grad_region || target == autocast_region) return;
    const bool is_checkpoint = target.find("checkpoint") != std::string_view::npos;
    add(node, "is the higher-order operator " + node.target + ", which is not supported; " +
                  (is_checkpoint ? "export the model with its own checkpointing turned off"
                                 : "rewrite that part of the model without it"));
    return;
  }
  const std::string_view rest = target.substr(operator_prefix.size());
  const std::string_view name_space = rest.substr(0, rest.find('.'));
  if (name_space != "aten" && name_space != "prim" && name_space != "torchvision") {
    add(node, "calls " + node.target +
                  ", an operator that is registered from Python or an "
                  "extension and is not in LibTorch; choose another implementation in the model's "
                  "configuration");
  }
}

// Dropout and batch norm carry the mode as a constant.
void Checker::note_training_flag(const Node& node) {
  const bool is_dropout = node.target.starts_with("torch.ops.aten.dropout") ||
                          node.target.starts_with("torch.ops.aten.native_dropout") ||
                          node.target.starts_with("torch.ops.aten.feature_dropout");
  const bool is_batch_norm = node.target.starts_with("torch.ops.aten.batch_norm");
  if (!is_dropout && !is_batch_norm) return;
  for (const NodeInput& input : node.inputs) {
    if (input.name != "train" && input.name != "training") continue;
    const auto* flag = std::get_if<bool>(&input.argument);
    if (flag == nullptr) continue;
    has_training_node_ = has_training_node_ || *flag;
    if (!*flag) evaluation_nodes_.push_back(&node);
  }
}

void Checker::check_graph(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    check_target(node);
    note_training_flag(node);
    for (const NodeInput& input : node.inputs) {
      if (const auto* unsupported = std::get_if<UnsupportedArgument>(&input.argument)) {
        add(node, "has an argument '" + input.name + "' of the kind '" + unsupported->kind +
                      "', which is not supported; rewrite that part of the model without it");
      }
      const auto* body = std::get_if<SubgraphArgument>(&input.argument);
      if (body != nullptr && body->graph != nullptr) check_graph(*body->graph);
    }
    for (const NodeOutput& output : node.outputs) {
      if (output.kind == NodeOutput::Kind::unsupported) {
        add(node, "returns a value of the kind '" + output.names.front() +
                      "', which is not supported; rewrite that part of the model without it");
      }
    }
  }
}

void Checker::check_training_mode() {
  if (evaluation_nodes_.empty() || has_training_node_) return;
  add(*evaluation_nodes_.front(),
      "the program was exported in evaluation mode (dropout or batch norm is turned off "
      "everywhere); call model.train() before torch.export.export");
}

// Reentrant checkpointing inside an export puts everything behind the first checkpoint into no-grad
// regions: parameters are read there, and nothing that carries gradients reaches the outputs.
void Checker::check_gradient_flow() {
  std::set<std::string> carries;
  for (const InputSpec& spec : program_.input_specs) {
    std::vector<std::string> names;
    collect_names(spec.argument, names);
    if (names.empty() || spec.kind != InputSpec::Kind::parameter) continue;
    const auto weight = program_.weights.find(spec.target);
    if (weight != program_.weights.end() && weight->second.meta.requires_grad) {
      carries.insert(names.front());
    }
  }
  if (carries.empty()) return;
  const Node* lost = nullptr;
  for (const Node& node : program_.graph.nodes) {
    std::vector<std::string> reads;
    bool is_no_grad = false;
    for (const NodeInput& input : node.inputs) {
      collect_names(input.argument, reads);
      const auto* enabled = std::get_if<bool>(&input.argument);
      if (node.target == grad_region && enabled != nullptr && !*enabled) is_no_grad = true;
    }
    const bool takes_gradients =
        std::any_of(reads.begin(), reads.end(),
                    [&](const std::string& name) { return carries.contains(name); });
    if (!takes_gradients) continue;
    if (is_no_grad) {
      if (lost == nullptr) lost = &node;
      continue;
    }
    for (const NodeOutput& output : node.outputs) {
      carries.insert(output.names.begin(), output.names.end());
    }
    // In-place operators hand gradients on to what they write.
    if (!node.inputs.empty()) {
      std::vector<std::string> first;
      collect_names(node.inputs.front().argument, first);
      const std::string base = node.target.substr(0, node.target.rfind('.'));
      if (base.ends_with("_") && !first.empty()) carries.insert(first.front());
    }
  }
  std::vector<std::string> outputs;
  for (const ProgramArgument& output : program_.graph.outputs) collect_names(output, outputs);
  const bool reaches_output =
      std::any_of(outputs.begin(), outputs.end(),
                  [&](const std::string& name) { return carries.contains(name); });
  if (lost != nullptr && !reaches_output) {
    add(*lost,
        "gradients are lost in a no-grad region that reads parameters, as happens when the "
        "model checkpoints while it is exported; turn its checkpointing off and export again");
  }
}

}  // namespace

std::vector<ProgramFinding> check_program(const Program& program) {
  return Checker(program).check();
}

std::string innermost_source_line(const std::string& stack_trace) {
  // Lines such as: File "model.py", line 12, in forward. Frames inside PyTorch's own modules say
  // nothing to the user, so the innermost one outside of them is taken where there is one.
  std::size_t chosen = std::string::npos;
  bool chosen_is_users = false;
  for (std::size_t at = stack_trace.find("File \""); at != std::string::npos;
       at = stack_trace.find("File \"", at + 1)) {
    const std::string line = stack_trace.substr(at, stack_trace.find('\n', at) - at);
    const bool is_users = line.find("/torch/nn/") == std::string::npos;
    if (is_users || !chosen_is_users) chosen = at;
    chosen_is_users = chosen_is_users || is_users;
  }
  if (chosen == std::string::npos) return "";
  const std::size_t name = chosen + 6;
  const std::size_t name_end = stack_trace.find('"', name);
  if (name_end == std::string::npos) return "";
  std::string path = stack_trace.substr(name, name_end - name);
  const std::string line =
      stack_trace.substr(name_end, stack_trace.find('\n', name_end) - name_end);
  const std::size_t number = line.find("line ");
  if (number == std::string::npos) return path;
  const std::size_t number_end = line.find_first_not_of("0123456789", number + 5);
  std::string source = path + ":" + line.substr(number + 5, number_end - number - 5);
  const std::size_t function = line.find("in ", number);
  if (function != std::string::npos) source += " in " + line.substr(function + 3);
  return source;
}

}  // namespace tidemark
