// A program's graph made ready to run: operators looked up, arguments converted by the schema's
// types, last uses known. Private to the interpreter.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "symbolic_operators.hpp"
#include "tidemark/program.hpp"

namespace tidemark {

using Slot = std::int32_t;  // where a graph's value lies while it runs
inline constexpr Slot no_slot = -1;

struct Constant {
  c10::IValue value;
};
// A value as it is, or converted as the schema wants it.
struct FromSlot {
  enum class Want : std::uint8_t { as_is, floating, tensor };
  Slot slot = no_slot;
  Want want = Want::as_is;
};
// A Python number in a tensor slot: a 0-dim tensor made for each call, as Python does it.
struct NumberAsTensor {
  c10::Scalar number;
};
struct TensorListOf {
  std::vector<Slot> slots;  // no_slot: None
  bool is_optional = false;
};
using Number = std::variant<Slot, std::int64_t, double>;
struct NumberListOf {
  std::vector<Number> numbers;
  bool is_floating = false;
};
using ArgumentPlan = std::variant<Constant, FromSlot, NumberAsTensor, TensorListOf, NumberListOf>;

struct CompiledGraph;

struct CompiledNode {
  enum class Kind : std::uint8_t { call, symbolic, grad_region, autocast_region };
  Kind kind = Kind::call;
  const Node* node = nullptr;
  std::optional<c10::OperatorHandle> op;
  bool is_view = false;  // aten::view: of sizes alone
  SymbolicOperator symbolic = nullptr;
  std::vector<ArgumentPlan> arguments;  // calls: in schema order; regions: the operands
  // Regions.
  std::shared_ptr<const CompiledGraph> body;
  bool enabled = false;
  std::optional<at::ScalarType> dtype;
  // One entry per result: the slots of its values (a list has several).
  struct Result {
    bool is_list = false;
    std::vector<Slot> slots;
  };
  std::vector<Result> results;
  std::vector<Slot> last_uses;  // dropped after the node
};

struct CompiledGraph {
  std::vector<Slot> inputs;
  std::vector<Slot> outputs;  // no_slot: no value of the graph
  std::vector<CompiledNode> nodes;
  std::size_t slot_count = 0;
};

// Throws InputError naming node, target, source line and remedy.
[[nodiscard]] CompiledGraph compile_graph(const Program& program, const Graph& graph,
                                          c10::Device device);

}  // namespace tidemark
