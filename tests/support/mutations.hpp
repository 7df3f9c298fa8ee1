// Damage for readers: a reproducible stream of broken copies of a text or file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace tidemark::test {

// The nth broken copy: truncated, bits flipped, a piece cut out, doubled or overwritten by digits,
// brackets or huge numbers.
inline std::string mutated(const std::string& original, unsigned n) {
  std::mt19937 random(n);
  const auto below = [&](std::size_t limit) {
    return static_cast<std::size_t>(
        std::uniform_int_distribution<std::size_t>(0, std::max<std::size_t>(limit, 1) - 1)(random));
  };
  static const std::vector<std::string> words{
      "-1",    "1e400", "99999999999999999999", "null", "{", "[[[[", "}", "\"", ":", "true",
      "\\u12", "\xff",  "2147483648",           "0",    ","};
  std::string text = original;
  const std::size_t damages = 1 + below(3);
  for (std::size_t d = 0; d < damages && !text.empty(); ++d) {
    const std::size_t at = below(text.size());
    const std::size_t length = std::min(text.size() - at, 1 + below(24));
    switch (below(6)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      case 4:
        text.replace(at, length, words[below(words.size())]);
        break;
      default:
        text.insert(at, words[below(words.size())]);
        break;
    }
  }
  return text;
}

}  // namespace tidemark::test
