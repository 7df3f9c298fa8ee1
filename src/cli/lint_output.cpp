#include "lint_output.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "command.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

struct TextPosition {
  std::size_t line = 1;
  std::size_t column = 1;  // in bytes
};

TextPosition position_in(const std::string& text, std::size_t at) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(at, text.size()));
  const auto newlines = std::count(text.begin(), end, '\n');
  const auto begin = std::find(std::make_reverse_iterator(end), text.rend(), '\n').base();
  return {.line = static_cast<std::size_t>(newlines) + 1,
          .column = static_cast<std::size_t>(end - begin) + 1};
}

bool has_place(const LintFinding& finding) { return finding.place.end > finding.place.begin; }

// "deepspeedai/DeepSpeed#5704" as an address; a source file of DeepSpeed otherwise.
std::string address(const std::string& thread) {
  const std::size_t number = thread.find('#');
  if (number == std::string::npos) {
    return "https://github.com/deepspeedai/DeepSpeed/blob/master/" + thread;
  }
  return "https://github.com/" + thread.substr(0, number) + "/issues/" + thread.substr(number + 1);
}

void write(const Json& json, std::ostream& out) {
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
}

Json sarif_rule(const LintRule& rule) {
  Json json;
  json["id"] = rule.id;
  json["shortDescription"]["text"] = rule.summary;
  json["helpUri"] = address(std::string(rule.thread));
  json["defaultConfiguration"]["level"] = name(rule.severity);
  return json;
}

Json sarif_result(const Config& config, const LintFinding& finding) {
  const auto rules = lint_rules();
  const auto rule = std::find_if(rules.begin(), rules.end(),
                                 [&](const LintRule& r) { return r.id == finding.id; });
  Json json;
  json["ruleId"] = finding.id;
  json["ruleIndex"] = rule - rules.begin();
  json["level"] = name(finding.severity);
  json["message"]["text"] = finding.key + ": " + finding.message + ". " + finding.remedy;
  Json location;
  location["physicalLocation"]["artifactLocation"]["uri"] = config.path;
  // A finding about what the file lacks points at its first line.
  Json& region = location["physicalLocation"]["region"];
  const TextPosition begin = position_in(config.text, finding.place.begin);
  region["startLine"] = begin.line;
  if (has_place(finding)) {
    const TextPosition end = position_in(config.text, finding.place.end);
    region["startColumn"] = begin.column;
    region["endLine"] = end.line;
    region["endColumn"] = end.column;
  }
  json["locations"] = Json::array({std::move(location)});
  return json;
}

}  // namespace

void print_lint_text(const Config& config, const std::vector<LintFinding>& findings,
                     std::ostream& out) {
  for (const LintFinding& finding : findings) {
    out << config.path << ':';
    if (has_place(finding)) {
      const TextPosition at = position_in(config.text, finding.place.begin);
      out << at.line << ':' << at.column << ':';
    }
    out << ' ' << name(finding.severity) << ": " << finding.key << ": " << finding.message << ". "
        << finding.remedy << " [" << finding.id << ", " << finding.thread << "]\n";
  }
  if (findings.empty()) out << config.path << ": nothing to report\n";
}

void print_lint_json(const Config& config, const std::vector<LintFinding>& findings,
                     std::ostream& out) {
  const ActivationCheckpointing& block = config.activation_checkpointing;
  Json json;
  Json& keys = json["config"];
  keys["partition_activations"] = block.partition_activations;
  keys["number_checkpoints"] = nullptr;
  if (block.number_checkpoints) keys["number_checkpoints"] = *block.number_checkpoints;
  keys["contiguous_memory_optimization"] = block.contiguous_memory_optimization;
  keys["synchronize_checkpoint_boundary"] = block.synchronize_checkpoint_boundary;
  keys["profile"] = block.profile;
  keys["cpu_checkpointing"] = block.cpu_checkpointing;
  json["findings"] = Json::array();
  for (const LintFinding& finding : findings) {
    Json entry;
    entry["id"] = finding.id;
    entry["severity"] = name(finding.severity);
    entry["key"] = finding.key;
    entry["message"] = finding.message;
    entry["remedy"] = finding.remedy;
    entry["thread"] = finding.thread;
    entry["line"] = nullptr;
    entry["column"] = nullptr;
    if (has_place(finding)) {
      const TextPosition at = position_in(config.text, finding.place.begin);
      entry["line"] = at.line;
      entry["column"] = at.column;
    }
    json["findings"].push_back(std::move(entry));
  }
  write(json, out);
}

void print_lint_sarif(const Config& config, const std::vector<LintFinding>& findings,
                      std::ostream& out) {
  Json run;
  Json& driver = run["tool"]["driver"];
  const std::string tool = tool_version();  // "tidemark 0.1.0"
  const std::size_t space = tool.find(' ');
  driver["name"] = tool.substr(0, space);
  driver["semanticVersion"] = tool.substr(space + 1);
  driver["rules"] = Json::array();
  for (const LintRule& rule : lint_rules()) driver["rules"].push_back(sarif_rule(rule));
  run["results"] = Json::array();
  for (const LintFinding& finding : findings) {
    run["results"].push_back(sarif_result(config, finding));
  }
  // Columns count bytes of UTF-8; keys of the block are ASCII.
  run["columnKind"] = "unicodeCodePoints";
  Json json;
  json["$schema"] = "https://json.schemastore.org/sarif-2.1.0.json";
  json["version"] = "2.1.0";
  json["runs"] = Json::array({std::move(run)});
  write(json, out);
}

}  // namespace tidemark
