// What DeepSpeed would silently ignore, misread or fail on in a configuration. A rule is one row of
// a table in src/lint.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/config.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

enum class Severity : std::uint8_t { note, warning, error };
[[nodiscard]] std::string_view name(Severity severity);  // "note", "warning", "error"

// Whose training loop reads the file.
enum class LintTarget : std::uint8_t { deepspeed, hf, accelerate, lightning, megatron_deepspeed };

// A recorded step, for the rules that need numbers.
struct LintStep {
  StepTrace trace;
  std::vector<BlockRun> runs;
};

// What is known about the training besides the file; what is absent is not known.
struct LintSubject {
  const Config& config;
  LintTarget target = LintTarget::deepspeed;
  DeepSpeedVersion deepspeed_version{.major = 0, .minor = 19, .patch = 8};
  std::optional<std::int32_t> model_parallel_size;
  std::optional<std::int32_t> checkpoints;  // calls of checkpoint() between two backward passes
  bool sequence_parallel = false;           // Megatron's: ranks hold different inputs
  const LintStep* step = nullptr;
};

struct LintFinding {
  std::string id;
  Severity severity = Severity::warning;
  std::string key;      // "activation_checkpointing.number_checkpoints"
  std::string message;  // what DeepSpeed does with it, in one sentence
  std::string remedy;
  std::string thread;  // where users met it: "deepspeedai/DeepSpeed#5704"
  TextRange place;     // of the key in the file; empty where the file does not have it
  bool operator==(const LintFinding&) const = default;
};

// What a rule's check found; the rule's row adds the rest.
struct LintHit {
  std::string key;
  std::string message;
  std::string remedy;
  TextRange place;
};

struct LintRule {
  std::string_view id;  // stable
  Severity severity;
  std::string_view summary;  // what DeepSpeed does, for `list rules`
  std::string_view thread;   // public thread or source file
  std::vector<LintHit> (*check)(const LintSubject& subject);
};

// The registry, in the order in which findings are told.
[[nodiscard]] std::span<const LintRule> lint_rules();

[[nodiscard]] std::vector<LintFinding> lint(const LintSubject& subject);

}  // namespace tidemark
