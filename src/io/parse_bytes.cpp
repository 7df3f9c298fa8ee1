#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

struct Suffix {
  std::string_view name;
  double bytes;
};

constexpr std::array<Suffix, 10> suffixes{{{"", 1},
                                           {"B", 1},
                                           {"KiB", 1024},
                                           {"MiB", 1024. * 1024},
                                           {"GiB", 1024. * 1024 * 1024},
                                           {"TiB", 1024. * 1024 * 1024 * 1024},
                                           {"KB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"TB", 1e12}}};

[[noreturn]] void refuse(const std::string& text) {
  throw UsageError("'" + text +
                   "' is no size in bytes; write a plain number, or one followed by KiB, MiB, GiB, "
                   "TiB, KB, MB, GB or TB");
}

}  // namespace

Bytes parse_bytes(const std::string& text) {
  const std::size_t number_end = text.find_first_not_of("0123456789.");
  const std::string_view number = std::string_view(text).substr(0, number_end);
  std::string_view suffix =
      number_end == std::string::npos ? "" : std::string_view(text).substr(number_end);
  if (suffix.starts_with(' ')) suffix.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (number.empty() || error != std::errc() || end != number.data() + number.size()) refuse(text);
  for (const Suffix& known : suffixes) {
    if (known.name != suffix) continue;
    const double bytes = value * known.bytes;
    const bool is_plain = suffix.empty();
    const bool is_whole = bytes == std::floor(bytes);
    if (bytes >= 9.2e18 || (is_plain && !is_whole)) refuse(text);
    return static_cast<Bytes>(bytes);
  }
  refuse(text);
}

}  // namespace tidemark
