#pragma once

#include <cstdlib>
#include <string>

#include "tidemark/errors.hpp"

namespace tidemark::fuzz {

// What every reader promises of any bytes that "input" may hold: they are used, or refused in one
// sentence that names the file. Anything else ends the process, which libFuzzer reports.
template <typename Use>
void use_or_refuse(Use use) {
  try {
    use();
  } catch (const InputError& error) {
    const std::string message = error.what();
    if (!message.starts_with("input") || message.find('\n') != std::string::npos) std::abort();
  }
}

inline void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace tidemark::fuzz
