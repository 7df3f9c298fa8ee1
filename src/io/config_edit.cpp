// Writing the recommended keys into the user's own file: every other byte stays.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/config.hpp"
#include "tidemark/hjson.hpp"

namespace tidemark {

namespace {

const std::string block_name = "activation_checkpointing";

struct WantedKey {
  std::string key;
  std::string text;         // as JSON
  bool is_default = false;  // what DeepSpeed takes when the key is missing
  bool is_unchanged = false;
};

std::string to_text(bool flag) { return flag ? "true" : "false"; }
std::string to_text(const std::optional<std::int64_t>& number) {
  return number ? std::to_string(*number) : "null";
}

std::vector<WantedKey> wanted_keys(const ActivationCheckpointing& now,
                                   const ActivationCheckpointing& wanted) {
  const ActivationCheckpointing defaults;
  std::vector<WantedKey> keys;
  const auto add = [&](const char* key, auto member) {
    keys.push_back({.key = key,
                    .text = to_text(wanted.*member),
                    .is_default = wanted.*member == defaults.*member,
                    .is_unchanged = wanted.*member == now.*member});
  };
  add("partition_activations", &ActivationCheckpointing::partition_activations);
  add("cpu_checkpointing", &ActivationCheckpointing::cpu_checkpointing);
  add("contiguous_memory_optimization", &ActivationCheckpointing::contiguous_memory_optimization);
  add("number_checkpoints", &ActivationCheckpointing::number_checkpoints);
  add("synchronize_checkpoint_boundary", &ActivationCheckpointing::synchronize_checkpoint_boundary);
  add("profile", &ActivationCheckpointing::profile);
  return keys;
}

struct Edit {
  TextRange range;
  std::string text;
};

// Later edits first, so that earlier places stay where they are; of insertions at one place the one
// that was asked for first ends up first.
std::string apply(std::string text, std::vector<Edit> edits) {
  std::stable_sort(edits.begin(), edits.end(),
                   [](const Edit& a, const Edit& b) { return a.range.begin < b.range.begin; });
  std::for_each(edits.rbegin(), edits.rend(), [&](const Edit& edit) {
    text.replace(edit.range.begin, edit.range.end - edit.range.begin, edit.text);
  });
  return text;
}

std::string line_break(const std::string& text) {
  return text.find("\r\n") != std::string::npos ? "\r\n" : "\n";
}

// The spaces between the start of a position's line and the position, if there is nothing else.
std::optional<std::string> indentation_before(const std::string& text, std::size_t at) {
  const std::size_t newline = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  const std::string before = text.substr(begin, at - begin);
  if (before.find_first_not_of(" \t") != std::string::npos) return std::nullopt;
  return before;
}

bool has_quoted_keys(const HjsonObject& object, const std::string& text) {
  return object.members.empty() || text[object.members.back().key_range.begin] == '"' ||
         text[object.members.back().key_range.begin] == '\'';
}

std::string written_key(const std::string& key, bool is_quoted) {
  return is_quoted ? "\"" + key + "\"" : key;
}

// Where a comment ends that takes up the rest of the line at `at`; absent: something else does.
std::optional<std::size_t> end_of_comment(const std::string& text, std::size_t at) {
  const std::size_t begin = text.find_first_not_of(" \t", at);
  if (begin == std::string::npos) return std::nullopt;
  std::size_t line_end = std::min(text.find('\n', begin), text.size());
  if (line_end > begin && text[line_end - 1] == '\r') --line_end;
  if (text[begin] == '#' || text.compare(begin, 2, "//") == 0) return line_end;
  if (text.compare(begin, 2, "/*") != 0) return std::nullopt;
  const std::size_t close = text.find("*/", begin + 2);
  if (close == std::string::npos || close + 2 > line_end) return std::nullopt;
  const bool is_last = text.find_first_not_of(" \t", close + 2) >= line_end;
  return is_last ? std::optional(close + 2) : std::nullopt;
}

// Where and how new members go behind the last one (or into an empty object). A comment behind the
// last one stays with it.
std::vector<Edit> insertion(const std::string& text, const HjsonValue& object_value,
                            const HjsonObject& object,
                            const std::vector<std::pair<std::string, std::string>>& members) {
  const std::string newline = line_break(text);
  const bool is_quoted = has_quoted_keys(object, text);
  if (object.members.empty()) {
    const std::size_t open =
        object.has_braces ? object_value.range.begin + 1 : object_value.range.begin;
    std::string inserted;
    for (const auto& [key, value] : members) {
      inserted += (inserted.empty() ? "" : ", ") + written_key(key, is_quoted) + ": " + value;
    }
    return {{{open, open}, inserted}};
  }
  const HjsonMember& last = object.members.back();
  const std::size_t end = last.value.range.end;
  const auto indentation = indentation_before(text, last.key_range.begin);
  // A comma after the last member stays the trailing comma that it was.
  std::size_t next = end;
  while (next < text.size() && (text[next] == ' ' || text[next] == '\t')) ++next;
  const bool has_trailing_comma = next < text.size() && text[next] == ',';
  const bool separates_by_comma = has_trailing_comma || object.has_braces;
  const bool can_take_comma = !last.value.is_quoteless_text;
  const auto comment = indentation && can_take_comma
                           ? end_of_comment(text, has_trailing_comma ? next + 1 : end)
                           : std::nullopt;
  std::string inserted;
  if (comment) {
    for (const auto& [key, value] : members) {
      const bool is_last = key == members.back().first;
      inserted += newline + *indentation + written_key(key, is_quoted) + ": " + value;
      if (separates_by_comma && (!is_last || has_trailing_comma)) inserted += ",";
    }
    const bool needs_comma = separates_by_comma && !has_trailing_comma;
    return {{{end, end}, needs_comma ? "," : ""}, {{*comment, *comment}, inserted}};
  }
  for (const auto& [key, value] : members) {
    if (separates_by_comma && can_take_comma) inserted += ",";
    inserted += indentation ? newline + *indentation
                            : (last.value.is_quoteless_text ? newline : std::string(" "));
    inserted += written_key(key, is_quoted) + ": " + value;
  }
  return {{{end, end}, inserted}};
}

}  // namespace

std::string with_block(const Config& config, const ActivationCheckpointing& wanted) {
  const HjsonValue root = parse_hjson(config.path, config.text);
  const auto* top = std::get_if<HjsonObject>(&root.value);
  if (top == nullptr) return config.text;
  const std::vector<WantedKey> keys = wanted_keys(config.activation_checkpointing, wanted);
  const HjsonMember* member = find_member(*top, block_name);
  const auto* block = member == nullptr ? nullptr : std::get_if<HjsonObject>(&member->value.value);
  std::vector<Edit> edits;
  std::vector<std::pair<std::string, std::string>> missing;
  for (const WantedKey& key : keys) {
    const HjsonMember* present = block == nullptr ? nullptr : find_member(*block, key.key);
    if (present != nullptr) {
      if (!key.is_unchanged) edits.push_back({present->value.range, key.text});
    } else if (!key.is_default) {
      missing.emplace_back(key.key, key.text);
    }
  }
  if (block != nullptr) {
    if (!missing.empty()) {
      for (Edit& edit : insertion(config.text, member->value, *block, missing)) {
        edits.push_back(std::move(edit));
      }
    }
    return apply(config.text, edits);
  }
  if (missing.empty()) return config.text;
  std::string written;
  for (const auto& [key, value] : missing) {
    written += (written.empty() ? "" : ", ") + written_key(key, true) + ": " + value;
  }
  written = "{" + written + "}";
  if (member != nullptr) {  // null, or something else that DeepSpeed fails on
    return apply(config.text, {{member->value.range, written}});
  }
  return apply(config.text, insertion(config.text, root, *top, {{block_name, written}}));
}

std::string with_segments(const Config& config,
                          const std::vector<std::vector<std::string>>& segments) {
  const std::string key = "tidemark_segments";
  const HjsonMember* present = find_member(config.root, key);
  if (segments.empty() && present == nullptr) return config.text;
  const std::string written = nlohmann::json(segments).dump();
  if (present != nullptr) return apply(config.text, {{present->value.range, written}});
  const HjsonValue root = parse_hjson(config.path, config.text);
  return apply(config.text, insertion(config.text, root, config.root, {{key, written}}));
}

}  // namespace tidemark
