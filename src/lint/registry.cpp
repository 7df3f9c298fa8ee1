// Every table of rules, and running them.
#include <array>
#include <vector>

#include "rules.hpp"

namespace tidemark {

std::string_view name(Severity severity) {
  static constexpr std::array<std::string_view, 3> names{"note", "warning", "error"};
  return names.at(static_cast<std::size_t>(severity));
}

LintHit hit_in_block(const LintSubject& subject, std::string_view key, std::string message,
                     std::string remedy) {
  LintHit hit{.key = std::string(lint_block_name),
              .message = std::move(message),
              .remedy = std::move(remedy),
              .place = {}};
  if (const HjsonMember* block = find_block(subject.config)) hit.place = block->key_range;
  if (key.empty()) return hit;
  hit.key += "." + std::string(key);
  if (const HjsonObject* keys = block_keys_of(subject)) {
    if (const HjsonMember* member = find_member(*keys, std::string(key))) {
      hit.place = member->key_range;
    }
  }
  return hit;
}

const HjsonObject* block_keys_of(const LintSubject& subject) {
  const HjsonMember* block = find_block(subject.config);
  return block == nullptr ? nullptr : std::get_if<HjsonObject>(&block->value.value);
}

bool is_active(const LintSubject& subject) {
  return block_keys_of(subject) != nullptr && keys_of(subject) != ActivationCheckpointing{};
}

bool offloads_asynchronously(const LintSubject& subject) {
  constexpr DeepSpeedVersion first_async{.major = 0, .minor = 19, .patch = 6};
  return keys_of(subject).cpu_checkpointing && !keys_of(subject).partition_activations &&
         subject.deepspeed_version >= first_async;
}

std::span<const LintRule> lint_rules() {
  static const std::vector<LintRule> all = [] {
    std::vector<LintRule> rules;
    // How the file is used comes first: a block that nothing applies needs no other finding.
    for (const auto table : {framework_rules(), block_rules(), combination_rules(), step_rules()}) {
      rules.insert(rules.end(), table.begin(), table.end());
    }
    return rules;
  }();
  return all;
}

std::vector<LintFinding> lint(const LintSubject& subject) {
  std::vector<LintFinding> findings;
  for (const LintRule& rule : lint_rules()) {
    for (LintHit& hit : rule.check(subject)) {
      findings.push_back({.id = std::string(rule.id),
                          .severity = rule.severity,
                          .key = std::move(hit.key),
                          .message = std::move(hit.message),
                          .remedy = std::move(hit.remedy),
                          .thread = std::string(rule.thread),
                          .place = hit.place});
    }
  }
  return findings;
}

}  // namespace tidemark
