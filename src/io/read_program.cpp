#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "program_archive.hpp"
#include "program_json.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::json;

constexpr std::int32_t supported_schema_major = 8;
const std::string write_again = "; write it again with torch.export.save of PyTorch 2.11";

// nlohmann's messages begin with "[json.exception.type_error.302] ".
std::string plain_message(const std::string& what) {
  const std::size_t end = what.find("] ");
  std::string message =
      what.starts_with("[json") && end != std::string::npos ? what.substr(end + 2) : what;
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message.substr(0, 300);
}

// Runs `read` and turns what is wrong with the JSON into one sentence about its place.
template <typename Read>
auto at_place(const ProgramArchive& archive, const std::string& place, Read read) {
  try {
    return read();
  } catch (const Json::exception& error) {
    throw InputError(archive.path(), place, plain_message(error.what()) + write_again);
  } catch (const UnsupportedProgramError& error) {
    throw InputError(archive.path(), place, error.what());
  } catch (const ProgramFormatError& error) {
    throw InputError(archive.path(), place, plain_message(error.what()) + write_again);
  }
}

Json parse_json(const ProgramArchive& archive, const std::string& record) {
  const std::string text = archive.text(record);
  return at_place(archive, record, [&] { return Json::parse(text); });
}

void refuse_other_archives(const ProgramArchive& archive) {
  if (archive.find("models/", ".json")) return;
  if (archive.has("serialized_exported_program.json")) {
    throw InputError(archive.path(), "",
                     "is an export of an old PyTorch; export it again with PyTorch 2.11");
  }
  if (archive.has("constants.pkl") || archive.find("code/", ".py")) {
    throw InputError(archive.path(), "",
                     "is a TorchScript archive; export the model with torch.export instead");
  }
  if (archive.has("data.pkl")) {
    throw InputError(archive.path(), "",
                     "holds saved tensors (torch.save), no program; export the model with "
                     "torch.export.save");
  }
  if (archive.find("data/aotinductor/", "")) {
    throw InputError(archive.path(), "",
                     "is a compiled package without its program; export the model with "
                     "torch.export.save");
  }
  throw InputError(archive.path(), "", "holds no exported program (models/*.json)" + write_again);
}

ProgramTensor parse_tensor(const ProgramArchive& archive, const std::string& folder,
                           const std::string& name, const Json& entry) {
  ProgramTensor tensor;
  tensor.name = name;
  tensor.record = folder + entry.at("path_name").get<std::string>();
  tensor.is_parameter = entry.at("is_param").get<bool>();
  if (!entry.at("tensor_meta").is_object()) {
    throw ProgramFormatError("'" + name + "' is no tensor; custom objects are not supported");
  }
  tensor.meta = parse_tensor_meta(entry.at("tensor_meta"));
  if (entry.value("use_pickle", false)) {
    throw ProgramFormatError("'" + name + "' is pickled; export it as a plain dense tensor");
  }
  tensor.range = archive.range(tensor.record);
  return tensor;
}

std::map<std::string, ProgramTensor> parse_tensors(const ProgramArchive& archive,
                                                   const std::string& folder) {
  std::map<std::string, ProgramTensor> tensors;
  const auto record = archive.find(folder, "_config.json");
  if (!record) {
    if (archive.find(folder, ".pt")) {
      throw InputError(archive.path(), folder,
                       "is laid out as before PyTorch 2.8; export the model again with 2.11");
    }
    return tensors;
  }
  const Json config = parse_json(archive, *record);
  at_place(archive, *record, [&] {
    for (const auto& [name, entry] : config.at("config").items()) {
      tensors.emplace(name, parse_tensor(archive, folder, name, entry));
    }
  });
  return tensors;
}

void parse_schema_version(const ProgramArchive& archive, const std::string& record,
                          const Json& model, Program& program) {
  at_place(archive, record, [&] {
    program.schema_major = model.at("schema_version").at("major").get<std::int32_t>();
    program.schema_minor = model.at("schema_version").at("minor").get<std::int32_t>();
    program.torch_version = model.value("torch_version", std::string());
  });
  if (program.schema_major != supported_schema_major) {
    throw InputError(archive.path(), record,
                     "has export schema " + std::to_string(program.schema_major) + ", only " +
                         std::to_string(supported_schema_major) +
                         " is known; export the model with PyTorch 2.11");
  }
}

void parse_graph_module(const Json& graph_module, Program& program) {
  program.graph = parse_graph(graph_module.at("graph"), 0);
  const Json& signature = graph_module.at("signature");
  for (const Json& spec : signature.at("input_specs")) {
    program.input_specs.push_back(parse_input_spec(spec));
  }
  for (const Json& spec : signature.at("output_specs")) {
    program.output_specs.push_back(parse_output_spec(spec));
  }
  if (program.input_specs.size() != program.graph.inputs.size()) {
    throw ProgramFormatError("the signature lists not as many inputs as the graph");
  }
  for (const Json& entry : graph_module.value("module_call_graph", Json::array())) {
    const auto path = entry.at("fqn").get<std::string>();
    if (!path.empty()) program.module_paths.push_back(path);
    const auto signature_entry = entry.find("signature");
    if (!path.empty() || signature_entry == entry.end() || !signature_entry->is_object()) continue;
    const auto names = signature_entry->find("forward_arg_names");
    if (names != signature_entry->end() && names->is_array()) {
      program.forward_argument_names = names->get<std::vector<std::string>>();
    }
  }
}

// Each parameter, buffer and constant that the graph takes must be there, with bytes for its shape.
void check_tensors(const ProgramArchive& archive, const Program& program) {
  for (const InputSpec& spec : program.input_specs) {
    using Kind = InputSpec::Kind;
    if (spec.kind != Kind::parameter && spec.kind != Kind::buffer &&
        spec.kind != Kind::tensor_constant) {
      continue;
    }
    if (!program.weights.contains(spec.target) && !program.constants.contains(spec.target)) {
      throw InputError(archive.path(), "'" + spec.target + "'",
                       "the graph takes it, but the file does not hold it" + write_again);
    }
  }
  for (const auto* tensors : {&program.weights, &program.constants}) {
    for (const auto& [name, tensor] : *tensors) {
      if (tensor.range.bytes == 0) continue;
      std::int64_t last = tensor.meta.storage_offset;
      bool is_empty = false;
      bool overflows = false;
      for (std::size_t d = 0; d < tensor.meta.sizes.size(); ++d) {
        is_empty = is_empty || tensor.meta.sizes[d] == 0;
        std::int64_t reach = 0;
        overflows =
            overflows ||
            __builtin_mul_overflow(tensor.meta.sizes[d] - 1, tensor.meta.strides[d], &reach) ||
            __builtin_add_overflow(last, reach, &last) || tensor.meta.strides[d] < 0;
      }
      const auto elements = static_cast<std::int64_t>(
          tensor.range.bytes / static_cast<std::uint64_t>(element_bytes(tensor.meta.dtype)));
      if (!is_empty && (overflows || last >= elements)) {
        throw InputError(archive.path(), "'" + name + "'",
                         "its shape reaches past its stored bytes" + write_again);
      }
    }
  }
}

Program read_archive(const ProgramArchive& archive) {
  refuse_other_archives(archive);
  const std::string record = *archive.find("models/", ".json");
  const Json model = parse_json(archive, record);
  Program program;
  program.path = archive.path();
  parse_schema_version(archive, record, model, program);
  at_place(archive, record, [&] { parse_graph_module(model.at("graph_module"), program); });
  program.weights = parse_tensors(archive, "data/weights/");
  program.constants = parse_tensors(archive, "data/constants/");
  if (const auto inputs = archive.find("data/sample_inputs/", ".pt")) {
    program.sample_inputs = archive.range(*inputs);
  }
  check_tensors(archive, program);
  const auto has_shape_only = [](const auto& entry) {
    const TensorMeta& meta = entry.second.meta;
    const bool is_empty = std::find(meta.sizes.begin(), meta.sizes.end(), 0) != meta.sizes.end();
    return entry.second.range.bytes == 0 && !is_empty;
  };
  program.has_no_values =
      std::any_of(program.weights.begin(), program.weights.end(), has_shape_only);
  return program;
}

}  // namespace

Program read_program(const std::string& path) {
  return read_archive(ProgramArchive::open_file(path));
}

Program parse_program(const std::string& path, const std::string& bytes) {
  return read_archive(ProgramArchive::open_bytes(path, bytes));
}

}  // namespace tidemark
