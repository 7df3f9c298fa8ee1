#include "command_inspect.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <variant>

#include "options.hpp"
#include "sweep_run.hpp"
#include "tidemark/io.hpp"
#include "tidemark/report.hpp"
#include "tidemark/setting.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;
using OrderedJson = nlohmann::ordered_json;

// ---- an exported program ------------------------------------------------------------------------

void count_targets(const Graph& graph, std::map<std::string, int>& targets) {
  for (const Node& node : graph.nodes) {
    ++targets[node.target];
    for (const NodeInput& input : node.inputs) {
      const auto* body = std::get_if<SubgraphArgument>(&input.argument);
      if (body != nullptr && body->graph != nullptr) count_targets(*body->graph, targets);
    }
  }
}

struct ParameterCount {
  std::int64_t tensors = 0;
  std::int64_t elements = 0;
  Bytes bytes = 0;
};

// Tied weights once: several names of one record.
ParameterCount count_parameters(const Program& program) {
  ParameterCount count;
  std::set<std::string> seen;
  for (const auto& [name, tensor] : program.weights) {
    if (!tensor.is_parameter) continue;
    const std::string identity =
        tensor.range.bytes == 0 ? name
                                : tensor.record + "@" + std::to_string(tensor.meta.storage_offset);
    if (!seen.insert(identity).second) continue;
    std::int64_t elements = 1;
    for (const std::int64_t size : tensor.meta.sizes) elements *= size;
    ++count.tensors;
    count.elements += elements;
    count.bytes += elements * element_bytes(tensor.meta.dtype);
  }
  return count;
}

std::string shape_of(const Program& program, const std::string& tensor) {
  const auto meta = program.graph.tensors.find(tensor);
  if (meta == program.graph.tensors.end()) return "";
  std::string text = std::string(name(meta->second.dtype)) + "[";
  for (std::size_t i = 0; i < meta->second.sizes.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(meta->second.sizes[i]);
  }
  return text + "]";
}

OrderedJson inspect_program(const Program& program) {
  OrderedJson json;
  json["kind"] = "program";
  json["torch_version"] = program.torch_version;
  std::map<std::string, int> targets;
  count_targets(program.graph, targets);
  int nodes = 0;
  for (const auto& [target, count] : targets) nodes += count;
  json["nodes"] = nodes;
  const ParameterCount parameters = count_parameters(program);
  json["parameters"] = {{"tensors", parameters.tensors},
                        {"elements", parameters.elements},
                        {"bytes", parameters.bytes}};
  json["has_values"] = !program.has_no_values;
  json["inputs"] = OrderedJson::object();
  for (const InputSpec& spec : program.input_specs) {
    const auto* tensor = std::get_if<TensorName>(&spec.argument);
    if (spec.kind == InputSpec::Kind::user_input && tensor != nullptr) {
      json["inputs"][tensor->name] = shape_of(program, tensor->name);
    }
  }
  json["outputs"] = OrderedJson::object();
  for (const ProgramArgument& output : program.graph.outputs) {
    const auto* tensor = std::get_if<TensorName>(&output);
    if (tensor != nullptr) json["outputs"][tensor->name] = shape_of(program, tensor->name);
  }
  json["targets"] = targets;
  json["findings"] = OrderedJson::array();
  for (const ProgramFinding& finding : check_program(program)) {
    json["findings"].push_back({{"node", finding.node},
                                {"target", finding.target},
                                {"source", finding.source},
                                {"message", finding.message}});
  }
  return json;
}

void print_program(const OrderedJson& json, std::ostream& out) {
  out << "exported program, PyTorch " << json["torch_version"].get<std::string>() << ", "
      << json["nodes"] << " nodes\n";
  out << "parameters: " << json["parameters"]["tensors"] << " tensors, "
      << json["parameters"]["elements"] << " elements, "
      << format_bytes(json["parameters"]["bytes"].get<Bytes>())
      << (json["has_values"].get<bool>() ? "" : " (exported without values)") << '\n';
  for (const char* side : {"inputs", "outputs"}) {
    out << side << ":\n";
    for (const auto& [tensor, shape] : json[side].items()) {
      out << "  " << tensor << "  " << shape.get<std::string>() << '\n';
    }
  }
  out << "operators:\n";
  for (const auto& [target, count] : json["targets"].items()) {
    out << "  " << count << "  " << target << '\n';
  }
  if (json["findings"].empty()) out << "nothing stands in the way of running it\n";
  for (const auto& finding : json["findings"]) {
    out << "cannot run: " << finding["node"].get<std::string>() << " "
        << finding["source"].get<std::string>() << ": " << finding["message"].get<std::string>()
        << '\n';
  }
}

// ---- a recorded step ----------------------------------------------------------------------------

constexpr std::array<std::string_view, 9> role_names{"parameter",       "buffer",     "input",
                                                     "constant",        "activation", "gradient",
                                                     "optimizer_state", "temporary",  "output"};
constexpr std::array<std::string_view, 3> phase_names{"forward", "backward", "optimizer"};

Prediction plain_step(const StepTrace& trace, bool holds_outputs) {
  return simulate(trace, plain_schedule(trace, {.hold_outputs = holds_outputs}));
}

OrderedJson inspect_peak(const StepTrace& trace) {
  const Prediction plain = plain_step(trace, false);
  OrderedJson json;
  json["live_peak_bytes"] = plain.figures.live_peak_bytes;
  json["peak_operator"] = describe_op(trace, plain.figures.peak_op);
  for (std::size_t t = 0; t < term_count; ++t) {
    if (plain.figures.peak_breakdown[t] != 0) {
      json["breakdown"][std::string(key(static_cast<Term>(t)))] = plain.figures.peak_breakdown[t];
    }
  }
  json["more_when_outputs_are_held"] =
      plain_step(trace, true).figures.live_peak_bytes - plain.figures.live_peak_bytes;
  return json;
}

OrderedJson inspect_blocks(const StepTrace& trace, const std::optional<std::string>& glob) {
  OrderedJson json = OrderedJson::array();
  for (const BlockRun& run : find_blocks(trace, glob)) {
    OrderedJson blocks = OrderedJson::array();
    for (const Block& block : run.blocks) {
      const Segment segment{.blocks = {block.name}, .first = block.first, .last = block.last};
      Bytes checkpoint = 0;
      for (const StorageId id : segment_inputs(trace, segment)) {
        checkpoint += trace.storages[index(id)].bytes;
      }
      blocks.push_back({{"name", block.name},
                        {"first_op", static_cast<std::int32_t>(block.first)},
                        {"last_op", static_cast<std::int32_t>(block.last)},
                        {"inputs", segment_inputs(trace, segment).size()},
                        {"input_bytes", checkpoint}});
    }
    json.push_back(std::move(blocks));
  }
  return json;
}

// What the trace does not know, and what serves instead.
std::vector<std::string> missing_fields(const StepTrace& trace) {
  std::vector<std::string> missing;
  const auto any_op = [&](auto has) {
    return std::any_of(trace.ops.begin(), trace.ops.end(), has);
  };
  if (any_op([](const Op& op) { return !op.call; })) {
    missing.emplace_back("some operators carry no call: the trace cannot be executed");
  }
  if (any_op([](const Op& op) { return !op.allocations; })) {
    missing.emplace_back(
        "some operators carry no allocations: allocated and reserved are not predicted");
  }
  if (!any_op([](const Op& op) { return op.duration.count() > 0; })) {
    missing.emplace_back("no operator carries a duration: times are not predicted");
  }
  if (!any_op([](const Op& op) { return !op.forward_ops.empty(); })) {
    missing.emplace_back(
        "no backward operator names its forward ones: they are told by what they read");
  }
  if (trace.modules.empty()) {
    missing.emplace_back("no modules are listed: blocks are looked for at the graph's cut points");
  }
  return missing;
}

OrderedJson inspect_trace(const StepTrace& trace, const std::optional<std::string>& glob) {
  OrderedJson json;
  json["kind"] = "step";
  json["device"] = {{"kind", name(trace.device.kind)},
                    {"name", trace.device.name},
                    {"threads", trace.device.threads}};
  json["model"] = trace.provenance.model;
  json["fingerprint"] = fingerprint(trace);
  json["executable"] = is_executable(trace);
  for (const std::string_view phase : phase_names) json["ops"][std::string(phase)] = 0;
  for (const Op& op : trace.ops) {
    OrderedJson& count =
        json["ops"][std::string(phase_names.at(static_cast<std::size_t>(op.phase)))];
    count = count.get<int>() + 1;
  }
  for (const Storage& storage : trace.storages) {
    OrderedJson& entry =
        json["storages"][std::string(role_names.at(static_cast<std::size_t>(storage.role)))];
    if (entry.is_null()) entry = {{"count", 0}, {"bytes", 0}};
    entry["count"] = entry["count"].get<int>() + 1;
    entry["bytes"] = entry["bytes"].get<Bytes>() + storage.bytes;
  }
  json["runs"] = inspect_blocks(trace, glob);
  json["peak"] = inspect_peak(trace);
  json["missing"] = missing_fields(trace);
  json["notes"] = OrderedJson::array();
  if (const auto unanswered = describe_unanswered_calls(trace)) {
    json["notes"].push_back(*unanswered);
  }
  return json;
}

void print_trace(const OrderedJson& json, std::ostream& out) {
  out << "recorded step on " << json["device"]["name"].get<std::string>() << " ("
      << json["device"]["kind"].get<std::string>() << ", " << json["device"]["threads"]
      << " threads)\n";
  out << "model: " << json["model"].get<std::string>()
      << "\nfingerprint: " << json["fingerprint"].get<std::string>() << '\n';
  out << "operators: " << json["ops"]["forward"] << " forward, " << json["ops"]["backward"]
      << " backward, " << json["ops"]["optimizer"] << " optimizer\n";
  out << "storages:\n";
  for (const auto& [role, entry] : json["storages"].items()) {
    out << "  " << role << "  " << entry["count"] << ", "
        << format_bytes(entry["bytes"].get<Bytes>()) << " in all\n";
  }
  for (const auto& run : json["runs"]) {
    out << "run of " << run.size() << " blocks:\n";
    for (const auto& block : run) {
      out << "  " << block["name"].get<std::string>() << "  operators " << block["first_op"] << "-"
          << block["last_op"] << ", " << block["inputs"]
          << (block["inputs"] == 1 ? " input of " : " inputs of ")
          << format_bytes(block["input_bytes"].get<Bytes>()) << '\n';
    }
  }
  const OrderedJson& peak = json["peak"];
  out << "peak without checkpointing: " << format_bytes(peak["live_peak_bytes"].get<Bytes>())
      << " (" << peak["live_peak_bytes"] << " B) in " << peak["peak_operator"].get<std::string>()
      << '\n';
  for (std::size_t t = 0; t < term_count; ++t) {
    const auto part = peak["breakdown"].find(std::string(key(static_cast<Term>(t))));
    if (part == peak["breakdown"].end()) continue;
    out << "  " << title(static_cast<Term>(t)) << "  " << format_bytes(part->get<Bytes>()) << '\n';
  }
  out << "holding the outputs to the end adds "
      << format_bytes(peak["more_when_outputs_are_held"].get<Bytes>()) << '\n';
  for (const char* list : {"missing", "notes"}) {
    for (const auto& note : json[list]) out << "note: " << note.get<std::string>() << '\n';
  }
}

}  // namespace

ExitCode run_inspect(const Arguments& arguments, const Streams& streams) {
  po::options_description options("options");
  options.add_options()("blocks", po::value<std::string>(),
                        "pattern of module paths that are the blocks")("json", "print JSON")(
      "strict", "calls that a phantom GPU could not answer exactly are an error");
  const auto given = parse_options(
      "inspect", "FILE is a recorded step (.json.gz) or an exported program (.pt2). Runs nothing.",
      options, {"FILE"}, arguments, streams);
  if (!given) return ExitCode::done;
  const ModelInput input = read_model((*given)["FILE"].as<std::string>());
  const auto* program = std::get_if<Program>(&input);
  const auto* trace = std::get_if<StepTrace>(&input);
  const OrderedJson json = program != nullptr
                               ? inspect_program(*program)
                               : inspect_trace(*trace, option<std::string>(*given, "blocks"));
  if (given->count("json") != 0) {
    streams.out << json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) << '\n';
  } else if (program != nullptr) {
    print_program(json, streams.out);
  } else {
    print_trace(json, streams.out);
  }
  if (trace == nullptr) return ExitCode::done;
  return judge_unanswered_calls(ExitCode::done, *trace, given->count("strict") != 0, streams);
}

}  // namespace tidemark
