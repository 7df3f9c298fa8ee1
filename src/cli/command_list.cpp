#include "command_list.hpp"

#include <ostream>

#include "options.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

ExitCode run_list(const Arguments& arguments, const Streams& streams) {
  const boost::program_options::options_description none;
  const auto given =
      parse_options("list", "WHAT is planners or formats.", none, {"WHAT"}, arguments, streams);
  if (!given) return ExitCode::done;
  const std::size_t what =
      choose("WHAT", (*given)["WHAT"].as<std::string>(), {"planners", "formats"});
  if (what == 0) {
    for (const Planner* planner : planners()) {
      streams.out << planner->name() << "  " << planner->description() << '\n';
    }
  } else {
    for (const Exporter* exporter : exporters()) {
      streams.out << exporter->name() << "  " << exporter->description() << '\n';
    }
  }
  return ExitCode::done;
}

}  // namespace tidemark
