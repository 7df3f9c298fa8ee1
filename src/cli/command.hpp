// What a command of the tool is. The only folder that knows argv.
#pragma once

#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

enum class ExitCode : int {
  done = 0,
  failed = 1,
  wrong_usage = 2,
  nothing_fits = 3,
  differs = 4,
};

// Where a command writes: results on `out`, everything else on `err`.
struct Streams {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
};

using Arguments = std::vector<std::string>;

struct Command {
  std::string_view name;
  std::string_view summary;
  ExitCode (*run)(const Arguments& arguments, const Streams& streams);
};

[[nodiscard]] std::span<const Command> commands();

// Runs one command line (without the program's name). Every failure becomes one sentence on `err`
// and an exit code.
[[nodiscard]] ExitCode run_command_line(const Arguments& arguments, const Streams& streams);

// "tidemark 0.1.0"
[[nodiscard]] std::string tool_version();
// The command line as provenance records it.
[[nodiscard]] std::string joined(const Arguments& arguments);

}  // namespace tidemark
