#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "columns.hpp"

namespace tidemark {

namespace {

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};

// The blocks that names of files and modules may plausibly hold, not all of Unicode.
constexpr std::array<Range, 6> combining{{{0x300, 0x36f},
                                          {0x200b, 0x200f},
                                          {0x1ab0, 0x1aff},
                                          {0x1dc0, 0x1dff},
                                          {0x20d0, 0x20ff},
                                          {0xfe00, 0xfe0f}}};
constexpr std::array<Range, 7> wide{{{0x1100, 0x115f},
                                     {0x2e80, 0xa4cf},
                                     {0xac00, 0xd7a3},
                                     {0xf900, 0xfaff},
                                     {0xff00, 0xff60},
                                     {0x1f300, 0x1faff},
                                     {0x20000, 0x3fffd}}};

template <std::size_t size>
bool holds(const std::array<Range, size>& ranges, std::uint32_t character) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) {
    return character >= range.first && character <= range.last;
  });
}

// How many bytes the character takes that begins with this byte; 1 for what begins none.
std::size_t length_of(unsigned char first) {
  if (first >= 0xf0 && first < 0xf8) return 4;
  if (first >= 0xe0 && first < 0xf0) return 3;
  if (first >= 0xc0 && first < 0xe0) return 2;
  return 1;
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text.front());
    const std::size_t length = std::min(length_of(first), text.size());
    std::uint32_t character = length == 1 ? first : first & (0xffu >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
      character = character << 6 | (static_cast<unsigned char>(text[i]) & 0x3fu);
    }
    text.remove_prefix(length);
    width += holds(combining, character) ? 0 : holds(wide, character) ? 2 : 1;
  }
  return width;
}

}  // namespace tidemark
