#include "command_list.hpp"

#include <ostream>

#include "options.hpp"
#include "tidemark/export.hpp"
#include "tidemark/lint.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

ExitCode run_list(const Arguments& arguments, const Streams& streams) {
  const boost::program_options::options_description none;
  const auto given = parse_options("list", "WHAT is planners, formats or rules.", none, {"WHAT"},
                                   arguments, streams);
  if (!given) return ExitCode::done;
  const std::size_t what =
      choose("WHAT", (*given)["WHAT"].as<std::string>(), {"planners", "formats", "rules"});
  if (what == 0) {
    for (const Planner* planner : planners()) {
      streams.out << planner->name() << "  " << planner->description() << '\n';
    }
  } else if (what == 1) {
    for (const Exporter* exporter : exporters()) {
      streams.out << exporter->name() << "  " << exporter->description() << '\n';
    }
  } else {
    for (const LintRule& rule : lint_rules()) {
      streams.out << rule.id << "  " << name(rule.severity) << ": " << rule.summary << " ("
                  << rule.thread << ")\n";
    }
  }
  return ExitCode::done;
}

}  // namespace tidemark
