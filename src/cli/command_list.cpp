#include "command_list.hpp"

#include <algorithm>
#include <cstddef>
#include <ostream>
#include <string>

#include "options.hpp"
#include "tidemark/export.hpp"
#include "tidemark/gpu_profile.hpp"
#include "tidemark/io.hpp"
#include "tidemark/lint.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

// Of a registry: what it is called, and what that is.
template <typename Entries>
void list_entries(const Entries& entries, const Streams& streams) {
  std::size_t widest = 0;
  for (const auto* entry : entries) widest = std::max(widest, entry->name().size());
  for (const auto* entry : entries) {
    streams.out << entry->name() << std::string(widest + 2 - entry->name().size(), ' ')
                << entry->description() << '\n';
  }
}

void list_rules(const Streams& streams) {
  for (const LintRule& rule : lint_rules()) {
    streams.out << rule.id << "  " << name(rule.severity) << ": " << rule.summary << " ("
                << rule.thread << ")\n";
  }
}

void list_gpus(bool as_json, const Streams& streams) {
  if (as_json) {
    const char* separator = "[";
    for (const GpuProfile& profile : gpu_profiles()) {
      streams.out << separator << format_gpu_profile(profile);
      separator = ",";
    }
    streams.out << "]\n";
    return;
  }
  for (const GpuProfile& profile : gpu_profiles()) {
    streams.out << profile.name << "  " << profile.device_name << ", "
                << format_bytes(profile.total_memory) << ", compute capability "
                << profile.compute_capability.major << '.' << profile.compute_capability.minor
                << ", " << profile.multiprocessors << " multiprocessors\n";
  }
  streams.out << "custom:FILE  a card of your own, in the form of list gpus --json\n";
}

}  // namespace

ExitCode run_list(const Arguments& arguments, const Streams& streams) {
  po::options_description options("options");
  options.add_options()("json", "gpus: print the profiles as JSON");
  const auto given = parse_options("list", "WHAT is planners, formats, targets, rules or gpus.",
                                   options, {"WHAT"}, arguments, streams);
  if (!given) return ExitCode::done;
  switch (choose("WHAT", (*given)["WHAT"].as<std::string>(),
                 {"planners", "formats", "targets", "rules", "gpus"})) {
    case 0:
      list_entries(planners(), streams);
      break;
    case 1:
      list_entries(exporters(), streams);
      break;
    case 2:
      list_entries(targets(), streams);
      break;
    case 3:
      list_rules(streams);
      break;
    default:
      list_gpus(given->count("json") != 0, streams);
  }
  return ExitCode::done;
}

}  // namespace tidemark
