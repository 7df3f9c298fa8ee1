// What LibTorch says of a failure, in one line: advice on debugging and backtraces follow it there.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace tidemark {

[[nodiscard]] inline std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

}  // namespace tidemark
