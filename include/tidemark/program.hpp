// Program: a torch.export archive (.pt2) as data. Needs no Torch to read, inspect or fuzz.
// Format: torch/_export/serde/schema.py (schema major 8) and torch/export/pt2_archive in PyTorch.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tidemark/tensor.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct Graph;

// A value of the graph by its name.
struct TensorName {
  std::string name;
  bool operator==(const TensorName&) const = default;
};
// A number that an earlier node computes, or that is known.
struct SymbolName {
  std::string name;
  bool operator==(const SymbolName&) const = default;
};
using SymbolicInt = std::variant<std::int64_t, SymbolName>;
using SymbolicFloat = std::variant<double, SymbolName>;

struct DeviceSpec {
  std::string type;  // "cpu", "cuda", "meta"
  std::optional<std::int32_t> index;
  bool operator==(const DeviceSpec&) const = default;
};
// A body of a higher-order operator.
struct SubgraphArgument {
  std::string name;
  std::shared_ptr<const Graph> graph;
};
// A kind that no operator we can run takes (torchbind objects, ...): kept so that a message can
// name it; refused when the node is about to run.
struct UnsupportedArgument {
  std::string kind;
  bool operator==(const UnsupportedArgument&) const = default;
};

using ProgramArgument =
    std::variant<NullValue, TensorName, std::vector<TensorName>,
                 std::vector<std::optional<TensorName>>, SymbolicInt, std::vector<SymbolicInt>,
                 SymbolicFloat, std::vector<SymbolicFloat>, bool, SymbolName /* symbolic bool */,
                 std::vector<bool>, std::string, std::vector<std::string>, ScalarType, Layout,
                 MemoryFormat, DeviceSpec, SubgraphArgument, UnsupportedArgument>;

struct NodeInput {
  std::string name;  // the schema's; empty for higher-order operators and Python targets
  bool is_keyword = false;
  ProgramArgument argument;
};

// One result of a node. A list result is one output with several names.
struct NodeOutput {
  enum class Kind : std::uint8_t {
    none,
    tensor,
    tensor_list,
    symbolic_int,
    symbolic_float,
    symbolic_bool,
    unsupported
  };
  Kind kind = Kind::none;
  std::vector<std::string> names;
};

struct Node {
  std::string name;
  std::string target;  // "torch.ops.aten.add.Tensor", "_operator.mul", "torch.ops.higher_order.x"
  std::vector<NodeInput> inputs;
  std::vector<NodeOutput> outputs;
  std::vector<Module> module_stack;  // outermost first; its last entry is the calling module
  std::string stack_trace;           // the user's source, as Python prints it
};

struct TensorMeta {
  ScalarType dtype = ScalarType::float32;
  std::vector<std::int64_t> sizes;  // symbolic ones by their hint
  std::vector<std::int64_t> strides;
  std::int64_t storage_offset = 0;
  bool requires_grad = false;
  DeviceSpec device;
};

struct Graph {
  std::vector<ProgramArgument> inputs;
  std::vector<ProgramArgument> outputs;
  std::vector<Node> nodes;
  std::map<std::string, TensorMeta> tensors;
};

// Where a record's bytes lie in the file (stored, never deflated), for mapping.
struct RecordRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool operator==(const RecordRange&) const = default;
};

// A parameter, buffer or constant. Several may name one record (tied weights, views of a storage).
struct ProgramTensor {
  std::string name;    // fully qualified
  std::string record;  // "data/weights/weight_3"; equal records of a file with values: one storage
  RecordRange range;   // zero bytes with a non-empty shape: exported without values
  TensorMeta meta;
  bool is_parameter = false;
};

struct InputSpec {
  enum class Kind : std::uint8_t {
    parameter,
    buffer,
    tensor_constant,
    user_input,
    constant_input,
    unsupported
  };
  Kind kind = Kind::user_input;
  ProgramArgument argument;  // the graph input's name; for constant inputs the baked value
  std::string target;        // fully qualified name in `tensors` for the first three kinds
  bool is_persistent = true;
};

struct OutputSpec {
  enum class Kind : std::uint8_t { user_output, loss_output, other };
  Kind kind = Kind::user_output;
  ProgramArgument argument;
  std::string description;  // for messages: the union's kind ("buffer_mutation")
};

struct Program {
  std::string path;  // the file, for mapping weights
  std::string torch_version;
  std::int32_t schema_major = 0;
  std::int32_t schema_minor = 0;
  Graph graph;
  std::vector<InputSpec> input_specs;              // aligned with graph.inputs
  std::vector<OutputSpec> output_specs;            // aligned with graph.outputs
  std::map<std::string, ProgramTensor> weights;    // persistent: data/weights
  std::map<std::string, ProgramTensor> constants;  // non-persistent buffers, lifted constants
  std::vector<std::string> module_paths;           // every submodule, in order
  std::vector<std::string> forward_argument_names;
  RecordRange sample_inputs;  // a torch.save of (args, kwargs); zero bytes: none
  // True when every parameter's record is empty: values must be made.
  bool has_no_values = false;
};

// Something in a program that cannot be run, found without running it.
struct ProgramFinding {
  std::string node;
  std::string target;
  std::string source;   // the user's innermost line
  std::string message;  // one sentence with the remedy
  bool operator==(const ProgramFinding&) const = default;
};

// What can be told without Torch: evaluation-mode exports (no node in training mode though dropout
// or batch norm is there), gradients lost by checkpointing inside the export (no-grad regions that
// read parameters requiring gradients and give the loss), higher-order and Python targets that are
// not supported, unsupported arguments. Empty: nothing stands in the way.
[[nodiscard]] std::vector<ProgramFinding> check_program(const Program& program);

// The innermost "file.py:12 in forward" of a Python stack trace as torch writes it; empty if none.
[[nodiscard]] std::string innermost_source_line(const std::string& stack_trace);

}  // namespace tidemark
