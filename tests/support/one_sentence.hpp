// What every reader promises for broken input: success, or one sentence that names the file.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "tidemark/errors.hpp"

namespace tidemark::test {

// Gives true when `read` succeeded, false when it failed in the promised way; anything else fails
// the test.
template <typename Read>
bool succeeds_or_says_why(const std::string& file, Read read) {
  try {
    read();
    return true;
  } catch (const InputError& error) {
    const std::string message = error.what();
    INFO(message);
    CHECK(message.starts_with(file + ": "));
    CHECK(message.find('\n') == std::string::npos);
    return false;
  }
}

}  // namespace tidemark::test
