#include "base64.hpp"

#include <array>
#include <string_view>

namespace tidemark {

namespace {
constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_letter = 255;

// The value of each letter of the alphabet.
constexpr std::array<std::uint8_t, 256> make_letter_values() {
  std::array<std::uint8_t, 256> values{};
  values.fill(no_letter);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}
constexpr std::array<std::uint8_t, 256> letter_values = make_letter_values();
}  // namespace

std::string to_base64(const std::vector<std::uint8_t>& bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t offset) {
      return i + offset < bytes.size() ? static_cast<unsigned>(bytes[i + offset]) : 0u;
    };
    const unsigned group = byte(0) << 16 | byte(1) << 8 | byte(2);
    text += alphabet[group >> 18 & 63];
    text += alphabet[group >> 12 & 63];
    text += i + 1 < bytes.size() ? alphabet[group >> 6 & 63] : '=';
    text += i + 2 < bytes.size() ? alphabet[group & 63] : '=';
  }
  return text;
}

std::optional<std::vector<std::uint8_t>> from_base64(const std::string& text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::vector<std::uint8_t> bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    unsigned group = 0;
    int padding = 0;
    for (std::size_t c = 0; c < 4; ++c) {
      const char letter = text[i + c];
      const std::uint8_t value = letter_values[static_cast<unsigned char>(letter)];
      const bool is_padding = letter == '=' && i + 4 == text.size() && c >= 2;
      if ((!is_padding && value == no_letter) || (padding > 0 && !is_padding)) {
        return std::nullopt;
      }
      padding += is_padding ? 1 : 0;
      group = group << 6 | (is_padding ? 0u : value);
    }
    bytes.push_back(static_cast<std::uint8_t>(group >> 16 & 255));
    if (padding < 2) bytes.push_back(static_cast<std::uint8_t>(group >> 8 & 255));
    if (padding < 1) bytes.push_back(static_cast<std::uint8_t>(group & 255));
  }
  return bytes;
}

}  // namespace tidemark
