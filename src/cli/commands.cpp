// Every command, one line each.
#include <array>
#include <exception>
#include <new>
#include <ostream>

#include "command.hpp"
#include "command_calibrate.hpp"
#include "command_compare.hpp"
#include "command_explain.hpp"
#include "command_export.hpp"
#include "command_inspect.hpp"
#include "command_lint.hpp"
#include "command_list.hpp"
#include "command_phantom.hpp"
#include "command_plan.hpp"
#include "command_record.hpp"
#include "command_report.hpp"
#include "command_run.hpp"
#include "command_sweep.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

void print_help(std::ostream& out) {
  out << "usage: tidemark COMMAND [arguments]\n\n"
         "How much memory a PyTorch training step needs under each activation-checkpointing\n"
         "setting, what each costs in time, and which to use.\n\n";
  for (const Command& command : commands()) {
    out << "  " << command.name << std::string(10 - command.name.size(), ' ') << command.summary
        << '\n';
  }
  out << "\ntidemark COMMAND --help tells a command's options. Exit codes: 0 done, 1 failed, 2 "
         "wrong\n"
         "usage, 3 nothing fits the budget, 4 measured and predicted differ.\n";
}

ExitCode fail(const Streams& streams, const std::string& sentence, ExitCode code) {
  streams.err << "tidemark: " << sentence << '\n';
  return code;
}

ExitCode dispatch(const Arguments& arguments, const Streams& streams) {
  if (arguments.empty()) {
    print_help(streams.err);
    return ExitCode::wrong_usage;
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    print_help(streams.out);
    return ExitCode::done;
  }
  if (name == "--version") {
    streams.out << tool_version() << '\n';
    return ExitCode::done;
  }
  for (const Command& command : commands()) {
    if (command.name == name) return command.run({arguments.begin() + 1, arguments.end()}, streams);
  }
  std::string known;
  for (const Command& command : commands()) {
    known += (known.empty() ? "" : ", ") + std::string(command.name);
  }
  throw UsageError("there is no command '" + name + "'; the commands are " + known);
}

}  // namespace

std::span<const Command> commands() {
  static const auto all = std::to_array<Command>({
      {"inspect", "what a trace or an exported program holds", run_inspect},
      {"record", "run one training step of an exported program and write it down", run_record},
      {"sweep", "predict and execute every checkpointing setting, recommend one",
       run_sweep_command},
      {"plan", "the fastest schedule within a memory budget, over single operators", run_plan},
      {"run", "execute a saved plan and compare", run_run},
      {"report", "print a sweep's result in another format", run_report},
      {"export", "write the chosen setting in a framework's own syntax", run_export},
      {"explain", "what sets a row's peak, and what would and would not lower it", run_explain},
      {"compare", "two sweeps row by row, or two plans; exit code 4 where they differ",
       run_compare},
      {"lint", "what DeepSpeed would do with a configuration", run_lint},
      {"calibrate", "measure what a machine achieves, for modelled times", run_calibrate},
      {"phantom", "run any PyTorch program on a GPU that is not there", run_phantom},
      {"list", "planners, formats, targets, lint rules and gpus", run_list},
  });
  return all;
}

ExitCode run_command_line(const Arguments& arguments, const Streams& streams) {
  try {
    return dispatch(arguments, streams);
  } catch (const UsageError& error) {
    return fail(streams, error.what(), ExitCode::wrong_usage);
  } catch (const InternalError& error) {
    return fail(streams, std::string("internal error, please report it: ") + error.what(),
                ExitCode::failed);
  } catch (const std::bad_alloc&) {
    return fail(streams, "this machine has not enough memory; use a smaller batch or model",
                ExitCode::failed);
  } catch (const std::exception& error) {
    return fail(streams, error.what(), ExitCode::failed);
  }
}

std::string tool_version() { return std::string("tidemark ") + TIDEMARK_VERSION; }

std::string joined(const Arguments& arguments) {
  std::string line = "tidemark";
  for (const std::string& argument : arguments) {
    const bool needs_quotes =
        argument.empty() || argument.find_first_of(" '\"\\$") != std::string::npos;
    line += needs_quotes ? " '" + argument + "'" : " " + argument;
  }
  return line;
}

}  // namespace tidemark
