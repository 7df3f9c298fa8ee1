#include "program_json.hpp"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace tidemark {

namespace {

using Json = nlohmann::json;

constexpr int deepest_subgraph = 32;

// The format's unions are objects with exactly one member, which names the kind.
struct Union {
  const std::string& kind;
  const Json& value;
};

Union read_union(const Json& json) {
  if (!json.is_object() || json.size() != 1) {
    throw ProgramFormatError("expected an object with one member that names its kind");
  }
  return {json.begin().key(), json.begin().value()};
}

// The export schema's numbers, which are not c10's (ScalarType in schema.py).
ScalarType scalar_type(const Json& json) {
  static const std::map<std::int64_t, ScalarType> types = {{1, ScalarType::uint8},
                                                           {2, ScalarType::int8},
                                                           {3, ScalarType::int16},
                                                           {4, ScalarType::int32},
                                                           {5, ScalarType::int64},
                                                           {6, ScalarType::float16},
                                                           {7, ScalarType::float32},
                                                           {8, ScalarType::float64},
                                                           {9, ScalarType::complex32},
                                                           {10, ScalarType::complex64},
                                                           {11, ScalarType::complex128},
                                                           {12, ScalarType::boolean},
                                                           {13, ScalarType::bfloat16},
                                                           {28, ScalarType::uint16},
                                                           {29, ScalarType::float8_e4m3fn},
                                                           {30, ScalarType::float8_e5m2},
                                                           {31, ScalarType::float8_e4m3fnuz},
                                                           {32, ScalarType::float8_e5m2fnuz},
                                                           {33, ScalarType::float8_e8m0fnu},
                                                           {34, ScalarType::uint32},
                                                           {35, ScalarType::uint64}};
  const auto found = types.find(json.get<std::int64_t>());
  if (found == types.end()) throw ProgramFormatError("unknown element type " + json.dump());
  return found->second;
}

MemoryFormat memory_format(const Json& json) {
  static const std::map<std::int64_t, MemoryFormat> formats = {{1, MemoryFormat::contiguous},
                                                               {2, MemoryFormat::channels_last},
                                                               {3, MemoryFormat::channels_last_3d},
                                                               {4, MemoryFormat::preserve}};
  const auto found = formats.find(json.get<std::int64_t>());
  if (found == formats.end()) throw ProgramFormatError("unknown memory format " + json.dump());
  return found->second;
}

DeviceSpec device(const Json& json) {
  DeviceSpec spec{.type = json.at("type").get<std::string>(), .index = {}};
  if (json.contains("index") && !json.at("index").is_null()) {
    spec.index = json.at("index").get<std::int32_t>();
  }
  return spec;
}

// Infinities and NaN are written as strings.
double number(const Json& json) {
  if (!json.is_string()) return json.get<double>();
  const auto text = json.get<std::string>();
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  throw ProgramFormatError("expected a number, found " + json.dump());
}

TensorName tensor_name(const Json& json) { return {json.at("name").get<std::string>()}; }

// {"as_int": 3} or {"as_name": "sym_size"}; sizes also {"as_expr": {"hint": {"as_int": 4}}}.
SymbolicInt symbolic_int(const Json& json) {
  const auto [kind, value] = read_union(json);
  if (kind == "as_int") return value.get<std::int64_t>();
  if (kind == "as_name") return SymbolName{value.get<std::string>()};
  throw ProgramFormatError("unknown symbolic number " + kind);
}

SymbolicFloat symbolic_float(const Json& json) {
  const auto [kind, value] = read_union(json);
  if (kind == "as_float") return number(value);
  if (kind == "as_name") return SymbolName{value.get<std::string>()};
  throw ProgramFormatError("unknown symbolic number " + kind);
}

std::int64_t size_or_hint(const Json& json) {
  const auto [kind, value] = read_union(json);
  if (kind == "as_int") return value.get<std::int64_t>();
  if (kind == "as_expr" && value.contains("hint") && value.at("hint").is_object()) {
    return size_or_hint(value.at("hint"));
  }
  if (kind == "as_expr") {
    throw UnsupportedProgramError(
        "the model makes a tensor whose size depends on values, as nonzero() and boolean masks do, "
        "so that no step is like another; give it a fixed size, with torch.where for example");
  }
  throw ProgramFormatError("a size has neither a number nor a hint");
}

std::vector<std::int64_t> sizes_or_hints(const Json& json) {
  std::vector<std::int64_t> sizes;
  for (const Json& size : json) sizes.push_back(size_or_hint(size));
  return sizes;
}

ProgramArgument optional_tensors(const Json& json) {
  std::vector<std::optional<TensorName>> names;
  for (const Json& item : json) {
    const auto [kind, value] = read_union(item);
    if (kind == "as_tensor") {
      names.emplace_back(tensor_name(value));
    } else {
      names.emplace_back(std::nullopt);
    }
  }
  return names;
}

template <typename Item, typename Convert>
std::vector<Item> list(const Json& json, Convert convert) {
  if (!json.is_array())
    throw ProgramFormatError("expected a list, found " + json.dump().substr(0, 60));
  std::vector<Item> items;
  for (const Json& item : json) items.push_back(convert(item));
  return items;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  return parts;
}

// "L['self'].blocks.0", "L__self___blocks_0" are strict mode's spellings; the middle field of an
// entry is the path as named_modules() has it, but for strict exports' prefixes.
std::string plain_path(std::string path) {
  for (const std::string prefix : {"L['self']", "L[\"self\"]", "L__self__"}) {
    if (path.starts_with(prefix)) path = path.substr(prefix.size());
  }
  std::string plain;
  for (const char c : path) {
    if (c == '[' || c == ']' || c == '\'' || c == '"') {
      const bool opens = c == '[' && !plain.empty() && plain.back() != '.';
      if (opens) plain.push_back('.');
      continue;
    }
    plain.push_back(c);
  }
  // "_modules.0" appears where a container was indexed.
  std::string result;
  for (const std::string& part : split(plain, '.')) {
    if (part.empty() || part == "_modules") continue;
    result += (result.empty() ? "" : ".") + part;
  }
  return result;
}

// Entries "key,path,type" joined by ';'. Keys can hold commas, so the split is from the right.
std::vector<Module> module_stack(const std::string& text) {
  std::vector<Module> stack;
  if (text.empty()) return stack;
  for (const std::string& entry : split(text, ';')) {
    const std::size_t type = entry.rfind(',');
    if (type == std::string::npos || type == 0) continue;
    const std::size_t path = entry.rfind(',', type - 1);
    if (path == std::string::npos) continue;
    Module module{.path = plain_path(entry.substr(path + 1, type - path - 1)),
                  .class_name = entry.substr(type + 1)};
    // A module that is called twice has "@1" behind its path.
    if (const std::size_t at = module.path.rfind('@'); at != std::string::npos) {
      module.path.resize(at);
    }
    stack.push_back(std::move(module));
  }
  return stack;
}

NodeOutput parse_output(const Json& json) {
  using Kind = NodeOutput::Kind;
  const auto [kind, value] = read_union(json);
  if (kind == "as_none") return {.kind = Kind::none, .names = {}};
  if (kind == "as_tensor") return {.kind = Kind::tensor, .names = {tensor_name(value).name}};
  if (kind == "as_tensors") {
    NodeOutput output{.kind = Kind::tensor_list, .names = {}};
    for (const Json& item : value) output.names.push_back(tensor_name(item).name);
    return output;
  }
  const auto symbol = [&symbol = value](Kind symbol_kind) {
    return NodeOutput{.kind = symbol_kind, .names = {symbol.at("as_name").get<std::string>()}};
  };
  if (kind == "as_sym_int") return symbol(Kind::symbolic_int);
  if (kind == "as_sym_float") return symbol(Kind::symbolic_float);
  if (kind == "as_sym_bool") return symbol(Kind::symbolic_bool);
  return {.kind = Kind::unsupported, .names = {kind}};
}

Node parse_node(const Json& json, int depth) {
  Node node;
  node.target = json.at("target").get<std::string>();
  for (const Json& input : json.at("inputs")) {
    NodeInput parsed;
    parsed.name = input.at("name").get<std::string>();
    parsed.is_keyword = input.value("kind", 1) == 2;
    parsed.argument = parse_argument(input.at("arg"), depth);
    node.inputs.push_back(std::move(parsed));
  }
  for (const Json& output : json.at("outputs")) node.outputs.push_back(parse_output(output));
  if (const auto name = json.find("name"); name != json.end() && name->is_string()) {
    node.name = name->get<std::string>();
  } else if (!node.outputs.empty() && !node.outputs[0].names.empty()) {
    node.name = node.outputs[0].names[0];
  }
  if (const auto metadata = json.find("metadata");
      metadata != json.end() && metadata->is_object()) {
    node.module_stack = module_stack(metadata->value("nn_module_stack", std::string()));
    node.stack_trace = metadata->value("stack_trace", std::string());
  }
  return node;
}

ProgramArgument parse_symbol(const std::string& kind, const Json& value) {
  if (kind == "as_sym_int") return symbolic_int(value);
  if (kind == "as_sym_ints") return list<SymbolicInt>(value, symbolic_int);
  if (kind == "as_sym_float") return symbolic_float(value);
  if (kind == "as_sym_floats") return list<SymbolicFloat>(value, symbolic_float);
  if (kind == "as_sym_bool") {
    const auto [inner_kind, inner] = read_union(value);
    if (inner_kind == "as_bool") return inner.get<bool>();
    return SymbolName{inner.get<std::string>()};
  }
  return UnsupportedArgument{kind};
}

}  // namespace

ProgramArgument parse_argument(const Json& json, int depth) {
  const auto [kind, value] = read_union(json);
  if (kind == "as_none") return NullValue{};
  if (kind == "as_tensor") return tensor_name(value);
  if (kind == "as_tensors") return list<TensorName>(value, tensor_name);
  if (kind == "as_optional_tensor") return parse_argument(value, depth);
  if (kind == "as_optional_tensors") return optional_tensors(value);
  if (kind == "as_int") return SymbolicInt{value.get<std::int64_t>()};
  if (kind == "as_ints") {
    return list<SymbolicInt>(value,
                             [](const Json& i) { return SymbolicInt{i.get<std::int64_t>()}; });
  }
  if (kind == "as_float") return SymbolicFloat{number(value)};
  if (kind == "as_floats") {
    return list<SymbolicFloat>(value, [](const Json& f) { return SymbolicFloat{number(f)}; });
  }
  if (kind == "as_bool") return value.get<bool>();
  if (kind == "as_bools") return list<bool>(value, [](const Json& b) { return b.get<bool>(); });
  if (kind == "as_string") return value.get<std::string>();
  if (kind == "as_strings") {
    return list<std::string>(value, [](const Json& s) { return s.get<std::string>(); });
  }
  if (kind == "as_scalar_type") return scalar_type(value);
  if (kind == "as_memory_format") return memory_format(value);
  if (kind == "as_layout") {
    if (value.get<std::int64_t>() == 7) return Layout::strided;
    return UnsupportedArgument{"a layout that is not strided"};
  }
  if (kind == "as_device") return device(value);
  if (kind == "as_graph") {
    return SubgraphArgument{
        .name = value.at("name").get<std::string>(),
        .graph = std::make_shared<const Graph>(parse_graph(value.at("graph"), depth + 1))};
  }
  return parse_symbol(kind, value);
}

TensorMeta parse_tensor_meta(const Json& json) {
  TensorMeta meta;
  meta.dtype = scalar_type(json.at("dtype"));
  meta.sizes = sizes_or_hints(json.at("sizes"));
  meta.strides = sizes_or_hints(json.at("strides"));
  meta.storage_offset = size_or_hint(json.at("storage_offset"));
  meta.requires_grad = json.at("requires_grad").get<bool>();
  meta.device = device(json.at("device"));
  if (json.value("layout", 7) != 7) throw ProgramFormatError("a tensor's layout is not strided");
  if (meta.sizes.size() != meta.strides.size()) {
    throw ProgramFormatError("a tensor has not as many strides as sizes");
  }
  std::int64_t elements = 1;
  for (const std::int64_t size : meta.sizes) {
    if (size < 0 || __builtin_mul_overflow(elements, size, &elements)) {
      throw ProgramFormatError("a tensor's sizes are negative or beyond all memory");
    }
  }
  if (meta.storage_offset < 0) throw ProgramFormatError("a tensor's storage offset is negative");
  return meta;
}

Graph parse_graph(const Json& json, int depth) {
  if (depth > deepest_subgraph) throw ProgramFormatError("subgraphs lie too deep in each other");
  Graph graph;
  for (const Json& input : json.at("inputs")) graph.inputs.push_back(parse_argument(input, depth));
  for (const Json& output : json.at("outputs")) {
    graph.outputs.push_back(parse_argument(output, depth));
  }
  std::size_t number = 0;
  for (const Json& node : json.at("nodes")) {
    try {
      graph.nodes.push_back(parse_node(node, depth));
    } catch (const Json::exception& error) {
      throw ProgramFormatError("node " + std::to_string(number) + ": " + error.what());
    } catch (const ProgramFormatError& error) {
      throw ProgramFormatError("node " + std::to_string(number) + ": " + error.what());
    }
    ++number;
  }
  for (const auto& [name, meta] : json.at("tensor_values").items()) {
    graph.tensors.emplace(name, parse_tensor_meta(meta));
  }
  return graph;
}

InputSpec parse_input_spec(const Json& json) {
  using Kind = InputSpec::Kind;
  const auto [kind, value] = read_union(json);
  InputSpec spec;
  if (kind == "user_input") {
    spec.argument = parse_argument(value.at("arg"), 0);
    return spec;
  }
  if (kind == "constant_input") {
    spec.kind = Kind::constant_input;
    spec.target = value.at("name").get<std::string>();
    spec.argument = parse_argument(value.at("value"), 0);
    return spec;
  }
  if (kind == "parameter" || kind == "buffer" || kind == "tensor_constant") {
    spec.argument = tensor_name(value.at("arg"));
    spec.kind = kind == "parameter" ? Kind::parameter
                : kind == "buffer"  ? Kind::buffer
                                    : Kind::tensor_constant;
    spec.target = value.at(kind + "_name").get<std::string>();
    spec.is_persistent = value.value("persistent", spec.kind == Kind::parameter);
    return spec;
  }
  spec.kind = Kind::unsupported;
  spec.target = kind;
  return spec;
}

OutputSpec parse_output_spec(const Json& json) {
  const auto [kind, value] = read_union(json);
  OutputSpec spec{.kind = OutputSpec::Kind::other, .argument = {}, .description = kind};
  if (kind == "user_output") spec.kind = OutputSpec::Kind::user_output;
  if (kind == "loss_output") spec.kind = OutputSpec::Kind::loss_output;
  const Json& argument = value.at("arg");
  const bool is_plain_name = argument.is_object() && argument.contains("name");
  spec.argument =
      is_plain_name ? ProgramArgument(tensor_name(argument)) : parse_argument(argument, 0);
  return spec;
}

}  // namespace tidemark
