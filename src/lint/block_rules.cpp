// The block and its keys taken one by one: names, types, ranges.
// Source: deepspeed/runtime/activation_checkpointing/config.py, runtime/config.py.
#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>

#include "rules.hpp"

namespace tidemark {

namespace {

using Hits = std::vector<LintHit>;

constexpr std::array<std::string_view, 6> known_keys{
    "partition_activations", "contiguous_memory_optimization",  "number_checkpoints",
    "cpu_checkpointing",     "synchronize_checkpoint_boundary", "profile"};

// Names that other tools and configure()'s arguments use for the same keys.
struct Alias {
  std::string_view wrong;
  std::string_view right;
};
constexpr std::array<Alias, 7> aliases{
    {{"partitioned_activations", "partition_activations"},
     {"num_checkpoints", "number_checkpoints"},
     {"checkpoint_in_cpu", "cpu_checkpointing"},
     {"contiguous_checkpointing", "contiguous_memory_optimization"},
     {"synchronize", "synchronize_checkpoint_boundary"},
     {"cpu_checkpoint", "cpu_checkpointing"},
     {"contigious_checkpointing", "contiguous_memory_optimization"}}};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string suggestion(const std::string& key) {
  for (const Alias& alias : aliases) {
    if (key == alias.wrong) return std::string(alias.right);
  }
  for (const std::string_view known : known_keys) {
    if (edit_distance(lower(key), known) <= 3) return std::string(known);
  }
  return "";
}

std::string python_type(const HjsonValue& value) {
  static constexpr std::array<const char*, 7> names{"NoneType", "bool", "int", "float",
                                                    "str",      "dict", "list"};
  return names.at(value.value.index());
}

bool is_null(const HjsonValue& value) {
  return std::holds_alternative<std::monostate>(value.value);
}

Hits misplaced_block(const LintSubject& subject) {
  Hits hits;
  const std::string block_name(lint_block_name);
  for (const HjsonMember& member : subject.config.root.members) {
    if (member.key == block_name) continue;
    const bool is_wrapper = member.key == "session_params";
    if (!is_wrapper && edit_distance(lower(member.key), block_name) > 3) continue;
    hits.push_back(
        {.key = member.key,
         .message = is_wrapper
                        ? "DeepSpeed does not look for the block inside session_params; it is "
                          "ignored"
                        : "DeepSpeed looks for \"" + block_name +
                              "\" in exactly this spelling; this key is ignored",
         .remedy = "Write the block at the top level under \"" + block_name + "\".",
         .place = member.key_range});
  }
  return hits;
}

Hits block_type(const LintSubject& subject) {
  const HjsonMember* block = find_block(subject.config);
  if (block == nullptr || block_keys_of(subject) != nullptr) return {};
  return {hit_in_block(subject, "",
                       "DeepSpeed fails with AttributeError: '" + python_type(block->value) +
                           "' object has no attribute 'get'",
                       "Write the block as an object, { ... }.")};
}

Hits unknown_key(const LintSubject& subject) {
  Hits hits;
  const HjsonObject* keys = block_keys_of(subject);
  if (keys == nullptr) return hits;
  for (const HjsonMember& member : keys->members) {
    if (std::find(known_keys.begin(), known_keys.end(), member.key) != known_keys.end()) continue;
    const std::string meant = suggestion(member.key);
    hits.push_back(hit_in_block(subject, member.key, "DeepSpeed ignores this key silently",
                                meant.empty() ? "Remove it." : "Write \"" + meant + "\" instead."));
  }
  return hits;
}

Hits flag_type(const LintSubject& subject) {
  Hits hits;
  const HjsonObject* keys = block_keys_of(subject);
  if (keys == nullptr) return hits;
  for (const HjsonMember& member : keys->members) {
    const bool is_flag =
        member.key != "number_checkpoints" &&
        std::find(known_keys.begin(), known_keys.end(), member.key) != known_keys.end();
    if (!is_flag || std::holds_alternative<bool>(member.value.value)) continue;
    hits.push_back(hit_in_block(subject, member.key,
                                "DeepSpeed keeps this value as it is and takes it as " +
                                    std::string(is_truthy(member.value) ? "true" : "false") +
                                    " (Python's truth of a " + python_type(member.value) + ")",
                                "Write true or false without quotes."));
  }
  return hits;
}

const HjsonMember* number_member(const LintSubject& subject) {
  const HjsonObject* keys = block_keys_of(subject);
  return keys == nullptr ? nullptr : find_member(*keys, "number_checkpoints");
}

Hits number_type(const LintSubject& subject) {
  const HjsonMember* member = number_member(subject);
  if (member == nullptr || is_null(member->value) ||
      std::holds_alternative<long long>(member->value.value)) {
    return {};
  }
  const bool is_flag = std::holds_alternative<bool>(member->value.value);
  return {hit_in_block(
      subject, "number_checkpoints",
      is_flag ? "DeepSpeed takes it as 1 or 0 buffers, so contiguous checkpointing fails with "
                "IndexError: list index out of range"
              : "with contiguous_memory_optimization DeepSpeed fails later with TypeError: '" +
                    python_type(member->value) + "' object cannot be interpreted as an integer",
      "Write a whole number without quotes.")};
}

Hits number_not_positive(const LintSubject& subject) {
  const auto& number = keys_of(subject).number_checkpoints;
  if (!number || *number > 0) return {};
  return {hit_in_block(
      subject, "number_checkpoints",
      "with contiguous_memory_optimization DeepSpeed fails with IndexError: list index out of "
      "range at the first checkpoint; without it the number does nothing",
      "Write the number of checkpoints that one forward makes.")};
}

constexpr std::array<const char*, 2> batch_keys{"train_batch_size",
                                                "train_micro_batch_size_per_gpu"};

// Other frameworks fill in the batch size, "auto" included, before DeepSpeed sees the file.
bool fills_batch_size(const LintSubject& subject) {
  return subject.target == LintTarget::hf || subject.target == LintTarget::accelerate ||
         subject.target == LintTarget::lightning;
}

// What Python says when DeepSpeed derives the third of the batch's sizes from two.
std::string batch_type_error(const HjsonObject& root) {
  const auto type = [&](const char* key) -> std::string {
    const HjsonMember* member = find_member(root, key);
    return member == nullptr || is_null(member->value) ? "" : python_type(member->value);
  };
  const std::string whole = type(batch_keys[0]);
  const std::string micro = type(batch_keys[1]);
  const bool has_all = !micro.empty() && !type("gradient_accumulation_steps").empty();
  if (whole.empty() || has_all) return "'>' not supported between instances of 'str' and 'int'";
  return "unsupported operand type(s) for //: '" + whole + "' and '" +
         (micro.empty() ? "int" : micro) + "'";
}

Hits batch_size_text(const LintSubject& subject) {
  Hits hits;
  if (fills_batch_size(subject)) return hits;
  for (const char* key : batch_keys) {
    const HjsonMember* member = find_member(subject.config.root, key);
    if (member == nullptr || !std::holds_alternative<std::string>(member->value.value)) continue;
    hits.push_back(
        {.key = key,
         .message = "DeepSpeed fails with TypeError: " + batch_type_error(subject.config.root) +
                    " when checkpointing.configure() reads this file",
         .remedy = "Write a number; \"auto\" is understood by the Hugging Face integration only.",
         .place = member->key_range});
  }
  return hits;
}

Hits batch_size_missing(const LintSubject& subject) {
  if (fills_batch_size(subject)) return {};
  const bool has_size = std::any_of(batch_keys.begin(), batch_keys.end(), [&](const char* key) {
    const HjsonMember* member = find_member(subject.config.root, key);
    return member != nullptr && !is_null(member->value);
  });
  if (has_size) return {};
  return {{.key = "train_batch_size",
           .message = "DeepSpeed fails with AssertionError: Either train_batch_size or "
                      "train_micro_batch_size_per_gpu needs to be provided",
           .remedy = "Add train_micro_batch_size_per_gpu.",
           .place = {}}};
}

}  // namespace

std::span<const LintRule> block_rules() {
  static constexpr std::array<LintRule, 8> rules{{
      {"misplaced-block", Severity::warning,
       "the block is read at the top level, in exactly its spelling, and nowhere else",
       "deepspeed/runtime/activation_checkpointing/config.py", misplaced_block},
      {"block-type", Severity::error, "a block that is no object makes DeepSpeed fail",
       "deepspeed/runtime/activation_checkpointing/config.py", block_type},
      {"unknown-key", Severity::warning, "an unknown key is ignored silently",
       "deepspeedai/DeepSpeed#5704", unknown_key},
      {"flag-type", Severity::warning, "a flag of another type is taken by Python's truth",
       "deepspeed/runtime/config_utils.py", flag_type},
      {"number-type", Severity::warning,
       "a number_checkpoints that is no whole number fails only with contiguous buffers",
       "deepspeedai/DeepSpeed#8041", number_type},
      {"number-not-positive", Severity::warning,
       "a number_checkpoints below 1 fails only with contiguous buffers",
       "deepspeedai/DeepSpeed#8041", number_not_positive},
      {"batch-size-text", Severity::error,
       "configure() reads the whole file and cannot read \"auto\" as a batch size",
       "huggingface/transformers#22099", batch_size_text},
      {"batch-size-missing", Severity::error,
       "configure() reads the whole file and demands a batch size", "deepspeed/runtime/config.py",
       batch_size_missing},
  }};
  return rules;
}

}  // namespace tidemark
