#pragma once

#include <sstream>
#include <string>

#include "command.hpp"

namespace tidemark::test {

// What a command left: its exit code and both streams.
struct Outcome {
  ExitCode code;
  std::string out;
  std::string err;
};

inline Outcome run(const Arguments& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  const ExitCode code = run_command_line(arguments, {.out = out, .err = err});
  return {code, out.str(), err.str()};
}

}  // namespace tidemark::test
