#include <unistd.h>

#include <iostream>

#include "command.hpp"

int main(int argc, char** argv) {
  const tidemark::Arguments arguments(argv + 1, argv + argc);
  const tidemark::Streams streams{
      .out = std::cout, .err = std::cerr, .err_is_terminal = isatty(STDERR_FILENO) != 0};
  const tidemark::ExitCode code = tidemark::run_command_line(arguments, streams);
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "tidemark: standard output could not be written\n";
    return static_cast<int>(tidemark::ExitCode::failed);
  }
  return static_cast<int>(code);
}
