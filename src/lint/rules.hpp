// The tables of rules, and what their checks share.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tidemark/lint.hpp"

namespace tidemark {

// The block and its keys taken one by one.
[[nodiscard]] std::span<const LintRule> block_rules();
// Keys that do not go together, and keys that cost without a gain.
[[nodiscard]] std::span<const LintRule> combination_rules();
// What the training loop's framework makes of the file.
[[nodiscard]] std::span<const LintRule> framework_rules();
// What only a recorded step can tell.
[[nodiscard]] std::span<const LintRule> step_rules();

inline constexpr std::string_view lint_block_name = "activation_checkpointing";

// A finding about a key of the block ("": the block itself), at its place in the file.
[[nodiscard]] LintHit hit_in_block(const LintSubject& subject, std::string_view key,
                                   std::string message, std::string remedy);

// The block as an object; nullptr: missing, or not an object.
[[nodiscard]] const HjsonObject* block_keys_of(const LintSubject& subject);

[[nodiscard]] inline const ActivationCheckpointing& keys_of(const LintSubject& subject) {
  return subject.config.activation_checkpointing;
}

// Whether the block asks for anything but the defaults.
[[nodiscard]] bool is_active(const LintSubject& subject);

// 0.19.6: cpu_checkpointing without partitioning copies asynchronously
// (deepspeedai/DeepSpeed#8282).
[[nodiscard]] bool offloads_asynchronously(const LintSubject& subject);

}  // namespace tidemark
