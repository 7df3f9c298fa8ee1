// Hjson as DeepSpeed reads it (the Python package hjson 3.1, decoder.py), with each value's place
// in the text, so that single values can be replaced and everything else stays as it was.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tidemark {

struct HjsonValue;
struct HjsonMember;

struct HjsonObject {
  std::vector<HjsonMember> members;
  bool has_braces = true;  // the root may stand without
};
struct HjsonArray {
  std::vector<HjsonValue> items;
};

// [begin, end) in the text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool operator==(const TextRange&) const = default;
};

struct HjsonValue {
  // Null, bool, whole number, other number, text, object, list.
  std::variant<std::monostate, bool, long long, double, std::string, HjsonObject, HjsonArray> value;
  TextRange range;
  // A text without quotes runs to the end of its line: nothing may be put behind it there.
  bool is_quoteless_text = false;
};

struct HjsonMember {
  std::string key;
  TextRange key_range;
  HjsonValue value;
};

// Throws InputError with file, line and column for what hjson refuses, and for keys that occur
// twice in one object, as DeepSpeed refuses them.
[[nodiscard]] HjsonValue parse_hjson(const std::string& file, const std::string& text);

// nullptr: the object has no such key.
[[nodiscard]] const HjsonMember* find_member(const HjsonObject& object, const std::string& key);

}  // namespace tidemark
