#include "tidemark/one_line.hpp"

#include <algorithm>

namespace tidemark {

namespace {

// Not a character that would end the line or drive a terminal.
bool is_plain(char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; }

}  // namespace

std::string one_line(const std::string& text) {
  std::string line = text;
  std::replace_if(
      line.begin(), line.end(), [](char c) { return !is_plain(c); }, '?');
  return line;
}

std::string beginning(const std::string& text) {
  std::size_t length = std::min<std::size_t>(text.size(), 40);
  while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) {
    --length;
  }
  return text.substr(0, length);
}

}  // namespace tidemark
