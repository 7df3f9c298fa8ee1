#include "tidemark/hjson.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "nesting.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/one_line.hpp"

namespace tidemark {

namespace {

bool is_punctuator(char c) { return std::string_view("{}[],:").find(c) != std::string_view::npos; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

void append_utf8(std::string& text, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 63));
    put(0x80 | (code >> 6 & 63));
    put(0x80 | (code & 63));
  }
}

// The end of the longest -?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)? at `begin`; is_whole: without the
// last two parts.
struct NumberEnd {
  std::size_t end = 0;
  bool is_whole = true;
};
std::optional<NumberEnd> match_number(std::string_view text) {
  std::size_t at = text.starts_with('-') ? 1 : 0;
  if (at >= text.size() || !is_digit(text[at])) return std::nullopt;
  if (text[at] == '0') {
    ++at;
  } else {
    while (at < text.size() && is_digit(text[at])) ++at;
  }
  NumberEnd number{.end = at, .is_whole = true};
  if (at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1])) {
    ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
    number = {at, false};
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    std::size_t exponent = at + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    if (exponent < text.size() && is_digit(text[exponent])) {
      while (exponent < text.size() && is_digit(text[exponent])) ++exponent;
      number = {exponent, false};
    }
  }
  return number;
}

class HjsonParser {
 public:
  HjsonParser(const std::string& file, const std::string& text) : file_(file), text_(text) {}

  // A root in braces or brackets; else an object without braces; else a single value.
  HjsonValue parse() {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
    skip_space();
    if (peek() == '{' || peek() == '[') return parse_only_value();
    const std::size_t start = at_;
    try {
      HjsonValue root;
      root.range.begin = at_;
      root.value = parse_members(false, 0);
      root.range.end = text_.size();
      return root;
    } catch (const InputError&) {
      at_ = start;
      HjsonValue single = parse_only_value();
      return single;
    }
  }

 private:
  [[noreturn]] void fail(const std::string& problem, std::size_t at) const {
    const std::size_t end = std::min(at, text_.size());
    const auto stop = text_.begin() + static_cast<std::ptrdiff_t>(end);
    const auto line = std::count(text_.begin(), stop, '\n') + 1;
    const std::size_t newline = end == 0 ? std::string::npos : text_.rfind('\n', end - 1);
    const std::size_t column = newline == std::string::npos ? end + 1 : end - newline;
    throw InputError(file_, "line " + std::to_string(line) + ", column " + std::to_string(column),
                     one_line(problem));
  }

  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  [[nodiscard]] bool is_end() const { return at_ >= text_.size(); }

  void skip_space() {
    while (!is_end()) {
      if (is_space(peek())) {
        ++at_;
      } else if (peek() == '#' || (peek() == '/' && peek(1) == '/')) {
        while (!is_end() && peek() != '\n' && peek() != '\r') ++at_;
      } else if (peek() == '/' && peek(1) == '*') {
        const std::size_t end = text_.find("*/", at_ + 2);
        if (end == std::string::npos) fail("a comment is not closed; end it with */", at_);
        at_ = end + 2;
      } else {
        return;
      }
    }
  }

  HjsonValue parse_only_value() {
    HjsonValue value = parse_value(0);
    skip_space();
    if (!is_end()) fail("something follows the end of the value; remove it", at_);
    return value;
  }

  HjsonValue parse_value(int depth) {
    if (depth > deepest_nesting) fail("values lie too deep in each other", at_);
    skip_space();
    HjsonValue value;
    value.range.begin = at_;
    if (is_end()) fail("the file ends where a value should stand; it is truncated", at_);
    if (peek() == '{') {
      ++at_;
      value.value = parse_members(true, depth);
    } else if (peek() == '[') {
      ++at_;
      value.value = parse_items(depth);
    } else if (peek() == '\'' && peek(1) == '\'' && peek(2) == '\'') {
      value.value = parse_multiline();
    } else if (peek() == '"' || peek() == '\'') {
      value.value = parse_quoted();
    } else {
      parse_bare(value);
      return value;
    }
    value.range.end = at_;
    return value;
  }

  HjsonObject parse_members(bool has_braces, int depth);
  HjsonArray parse_items(int depth);
  std::string parse_key(TextRange& range);
  std::string parse_quoted();
  std::uint32_t parse_hexadecimal();
  std::string parse_multiline();
  void parse_bare(HjsonValue& value);
  bool parse_bare_word(std::string_view word, HjsonValue& value) const;

  const std::string& file_;
  const std::string& text_;
  std::size_t at_ = 0;
};

HjsonObject HjsonParser::parse_members(bool has_braces, int depth) {
  HjsonObject object;
  object.has_braces = has_braces;
  while (true) {
    skip_space();
    if (is_end()) {
      if (!has_braces) break;
      fail("an object is not closed; the file is truncated", at_);
    }
    if (has_braces && peek() == '}') {
      ++at_;
      break;
    }
    HjsonMember member;
    member.key = parse_key(member.key_range);
    skip_space();
    if (peek() != ':') fail("a ':' must follow the key '" + beginning(member.key) + "'", at_);
    ++at_;
    if (find_member(object, member.key) != nullptr) {
      fail("Duplicate keys in DeepSpeed config: ['" + beginning(member.key) + "']; remove one",
           member.key_range.begin);
    }
    member.value = parse_value(depth + 1);
    object.members.push_back(std::move(member));
    skip_space();
    if (peek() == ',') ++at_;
  }
  return object;
}

HjsonArray HjsonParser::parse_items(int depth) {
  HjsonArray array;
  while (true) {
    skip_space();
    if (is_end()) fail("a list is not closed; the file is truncated", at_);
    if (peek() == ']') {
      ++at_;
      return array;
    }
    array.items.push_back(parse_value(depth + 1));
    skip_space();
    if (peek() == ',') ++at_;
  }
}

std::string HjsonParser::parse_key(TextRange& range) {
  range.begin = at_;
  if (peek() == '"' || peek() == '\'') {
    std::string key = parse_quoted();
    range.end = at_;
    return key;
  }
  while (!is_end() && peek() != ':' && !is_space(peek())) {
    if (is_punctuator(peek())) {
      fail(std::string("'") + peek() + "' stands where a key is expected", at_);
    }
    ++at_;
  }
  range.end = at_;
  if (range.begin == range.end) fail("a key is empty; write it in quotes", at_);
  while (!is_end() && is_space(peek())) ++at_;
  if (peek() != ':') fail("a key holds a space or has no ':'; write it in quotes", range.begin);
  return text_.substr(range.begin, range.end - range.begin);
}

std::uint32_t HjsonParser::parse_hexadecimal() {
  std::uint32_t code = 0;
  const char* begin = text_.data() + std::min(at_, text_.size());
  const char* end = text_.data() + std::min(at_ + 4, text_.size());
  const auto [stop, error] = std::from_chars(begin, end, code, 16);
  if (error != std::errc() || stop != begin + 4) fail("a \\u escape has not four digits", at_);
  at_ += 4;
  return code;
}

std::string HjsonParser::parse_quoted() {
  const std::size_t begin = at_;
  const char quote = text_[at_++];
  std::string result;
  while (true) {
    if (is_end()) fail("a text is not closed; end it with the quote that it began with", begin);
    const char c = text_[at_++];
    if (c == quote) return result;
    if (static_cast<unsigned char>(c) < 0x20) fail("a text in quotes holds a line break", at_ - 1);
    if (c != '\\') {
      result.push_back(c);
      continue;
    }
    static constexpr std::string_view escapes = "\"'\\/bfnrt";
    static constexpr std::string_view meanings = "\"'\\/\b\f\n\r\t";
    const char escape = is_end() ? '\0' : text_[at_++];
    if (escape == 'u') {
      std::uint32_t code = parse_hexadecimal();
      if ((code & 0xfc00) == 0xd800 && peek() == '\\' && peek(1) == 'u') {
        at_ += 2;
        code = 0x10000 + (((code - 0xd800) << 10) | ((parse_hexadecimal() - 0xdc00) & 0x3ff));
      }
      append_utf8(result, code);
      continue;
    }
    const std::size_t meaning = escape == '\0' ? std::string_view::npos : escapes.find(escape);
    if (meaning == std::string_view::npos) fail("an escape in a text is unknown", at_ - 1);
    result.push_back(meanings[meaning]);
  }
}

// '''text''' over several lines, with the first line's indentation taken away.
std::string HjsonParser::parse_multiline() {
  const std::size_t begin = at_;
  std::size_t indentation = 0;
  while (begin > indentation && text_[begin - indentation - 1] != '\n') ++indentation;
  at_ += 3;
  const auto skip_indentation = [&](std::size_t most) {
    while (most > 0 && (peek() == ' ' || peek() == '\t' || peek() == '\r')) {
      ++at_;
      --most;
    }
  };
  skip_indentation(text_.size());
  if (peek() == '\n') {
    ++at_;
    skip_indentation(indentation);
  }
  std::string result;
  while (true) {
    if (is_end()) fail("a text in ''' is not closed", begin);
    if (text_.compare(at_, 3, "'''") == 0) break;
    const char c = text_[at_++];
    if (c != '\r') result.push_back(c);
    if (c == '\n') skip_indentation(indentation);
  }
  at_ += 3;
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

bool HjsonParser::parse_bare_word(std::string_view word, HjsonValue& value) const {
  if (word == "null") {
    value.value = std::monostate{};
    return true;
  }
  if (word == "true" || word == "false") {
    value.value = word == "true";
    return true;
  }
  const auto number = match_number(word);
  if (!number || number->end != word.size()) return false;
  long long whole = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), whole);
  if (number->is_whole && error == std::errc()) {
    value.value = whole;
    return true;
  }
  double real = 0;
  std::from_chars(word.data(), word.data() + word.size(), real);
  // As hjson does it: 4.0 and 4e0 are the whole number 4.
  if (!number->is_whole && std::abs(real) < 1e10 && real == std::trunc(real)) {
    value.value = static_cast<long long>(real);
  } else {
    value.value = real;
  }
  return true;
}

// A number, true, false or null up to the next separator; otherwise a text up to the end of line.
void HjsonParser::parse_bare(HjsonValue& value) {
  const std::size_t begin = at_;
  if (is_punctuator(peek())) {
    fail(std::string("'") + peek() + "' stands where a value is expected", at_);
  }
  for (;; ++at_) {
    const bool is_end_of_line = is_end() || peek() == '\n' || peek() == '\r';
    const bool is_separator = is_end_of_line || peek() == ',' || peek() == '}' || peek() == ']' ||
                              peek() == '#' ||
                              (peek() == '/' && (peek(1) == '/' || peek(1) == '*'));
    if (!is_separator) continue;
    const std::string_view word = trimmed(std::string_view(text_).substr(begin, at_ - begin));
    value.range.end = begin + word.size();
    if (parse_bare_word(word, value)) return;
    if (is_end_of_line) {
      value.value = std::string(word);
      value.is_quoteless_text = true;
      return;
    }
  }
}

}  // namespace

const HjsonMember* find_member(const HjsonObject& object, const std::string& key) {
  const auto found = std::find_if(object.members.begin(), object.members.end(),
                                  [&](const HjsonMember& member) { return member.key == key; });
  return found == object.members.end() ? nullptr : &*found;
}

HjsonValue parse_hjson(const std::string& file, const std::string& text) {
  return HjsonParser(file, text).parse();
}

}  // namespace tidemark
