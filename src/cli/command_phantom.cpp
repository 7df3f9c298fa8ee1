#include "command_phantom.hpp"

#include <algorithm>
#include <ostream>

#include "options.hpp"
#include "phantom_report.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

po::options_description phantom_options() {
  po::options_description options("options");
  options.add_options()(
      "gpu", po::value<std::string>()->default_value("h200"),
      "the card: a profile of `tidemark list gpus`, or custom:FILE (a profile or a calibration)")(
      "gpus", po::value<int>()->default_value(0),
      "cards in the machine; 0: one for each local rank")("report", po::value<std::string>(),
                                                          "write the report as JSON to this file")(
      "snapshot", po::value<std::string>(),
      "write the allocator's history to this file, for pytorch.org/memory_viz")(
      "backlog",
      "asynchronous work counts as done only when the program synchronises, as on a device far "
      "behind")("strict", "calls without an exact answer are an error");
  return options;
}

[[noreturn]] void refuse_no_command() {
  throw UsageError("tidemark phantom needs a command after --, such as -- python train.py");
}

PhantomRequest read_request(const po::variables_map& given, const Arguments& command) {
  PhantomRequest request{.profile = find_gpu(given["gpu"].as<std::string>()).profile,
                         .command = command,
                         .gpus = given["gpus"].as<int>(),
                         .has_backlog = given.count("backlog") != 0,
                         .snapshot = option<std::string>(given, "snapshot")};
  if (request.gpus < 0 || request.gpus > 16) {
    throw UsageError("--gpus takes 0 to 16, not " + std::to_string(request.gpus));
  }
  if (command.empty()) refuse_no_command();
  return request;
}

// The first name of a call without an exact answer; empty: there was none.
std::string first_unanswered(const PhantomRun& run) {
  for (const PhantomProcess& process : run.processes) {
    if (!process.calls.empty()) return process.calls.front().name;
  }
  return "";
}

}  // namespace

ExitCode run_phantom(const Arguments& arguments, const Streams& streams) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  // Before the words of a command are taken for options.
  const bool asks_help = std::any_of(arguments.begin(), end, [](const std::string& argument) {
    return argument == "--help" || argument == "-h";
  });
  if (end == arguments.end() && !asks_help) refuse_no_command();
  const auto given = parse_options("phantom",
                                   "Runs a PyTorch program, unchanged, on a GPU that is not there, "
                                   "and tells its peak.\n"
                                   "Example: tidemark phantom --gpu h200 -- python train.py",
                                   phantom_options(), {}, {arguments.begin(), end}, streams);
  if (!given) return ExitCode::done;
  const PhantomRequest request = read_request(
      *given, end == arguments.end() ? Arguments{} : Arguments(end + 1, arguments.end()));
  const auto report = option<std::string>(*given, "report");
  if (report) check_writable(*report);
  if (request.snapshot) check_writable(*request.snapshot);
  const PhantomRun run = run_on_phantom(request);
  if (report) {
    write_file(*report, format_phantom_run(request.profile, run));
  } else {
    print_phantom_run(request.profile, run, streams.err);
  }
  const bool has_snapshot =
      std::any_of(run.processes.begin(), run.processes.end(),
                  [](const PhantomProcess& process) { return process.snapshot.has_value(); });
  if (request.snapshot && !has_snapshot) {
    streams.err << "no snapshot was left: only a process that used the GPU and ended by itself "
                   "leaves one\n";
  }
  const std::string unanswered = first_unanswered(run);
  if (given->count("strict") != 0 && !unanswered.empty() && run.exit_status == 0) {
    throw DeviceError("the command made calls that the phantom GPU cannot answer exactly, first " +
                      unanswered + "; without --strict they are only reported");
  }
  return static_cast<ExitCode>(run.exit_status);
}

}  // namespace tidemark
