#include "command_lint.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <ostream>

#include "options.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

std::string_view name(Severity severity) {
  static constexpr std::array<std::string_view, 3> names{"note", "warning", "error"};
  return names.at(static_cast<std::size_t>(severity));
}

void print_json(const Config& config, std::ostream& out) {
  const ActivationCheckpointing& block = config.activation_checkpointing;
  nlohmann::ordered_json json;
  nlohmann::ordered_json& keys = json["config"];
  keys["partition_activations"] = block.partition_activations;
  keys["number_checkpoints"] = nullptr;
  if (block.number_checkpoints) keys["number_checkpoints"] = *block.number_checkpoints;
  keys["contiguous_memory_optimization"] = block.contiguous_memory_optimization;
  keys["synchronize_checkpoint_boundary"] = block.synchronize_checkpoint_boundary;
  keys["profile"] = block.profile;
  keys["cpu_checkpointing"] = block.cpu_checkpointing;
  json["findings"] = nlohmann::ordered_json::array();
  for (const ConfigFinding& finding : config.findings) {
    nlohmann::ordered_json entry;
    entry["id"] = finding.id;
    entry["severity"] = name(finding.severity);
    entry["key"] = finding.key;
    entry["message"] = finding.message;
    entry["remedy"] = finding.remedy;
    json["findings"].push_back(std::move(entry));
  }
  out << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

void print_text(const Config& config, std::ostream& out) {
  for (const ConfigFinding& finding : config.findings) {
    out << config.path << ": " << name(finding.severity) << ": " << finding.key << ": "
        << finding.message << ". " << finding.remedy << " [" << finding.id << "]\n";
  }
  if (config.findings.empty()) out << config.path << ": nothing to report\n";
}

}  // namespace

ExitCode run_lint(const Arguments& arguments, const Streams& streams) {
  boost::program_options::options_description options("options");
  options.add_options()("json", "print JSON");
  const auto given = parse_options("lint", "CONFIG is a DeepSpeed configuration file.", options,
                                   {"CONFIG"}, arguments, streams);
  if (!given) return ExitCode::done;
  const Config config = read_config((*given)["CONFIG"].as<std::string>());
  if (given->count("json") != 0) {
    print_json(config, streams.out);
  } else {
    print_text(config, streams.out);
  }
  const bool has_error =
      std::any_of(config.findings.begin(), config.findings.end(),
                  [](const ConfigFinding& f) { return f.severity == Severity::error; });
  return has_error ? ExitCode::failed : ExitCode::done;
}

}  // namespace tidemark
