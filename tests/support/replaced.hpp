#pragma once

#include <catch2/catch.hpp>
#include <cstddef>
#include <string>

namespace tidemark::test {

// The text with the first `from`, which must be there, put as `to`.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace tidemark::test
