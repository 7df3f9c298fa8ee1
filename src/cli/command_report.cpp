#include "command_report.hpp"

#include <ostream>
#include <sstream>

#include "options.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/export.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const Exporter* exporter : exporters()) names.emplace_back(exporter->name());
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

ExitCode run_report(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  const std::vector<std::string> names = format_names();
  po::options_description options("options");
  options.add_options()("format", po::value<std::string>()->default_value("table"),
                        listed(names).c_str())(
      "row", po::value<std::size_t>(),
      "the row that is shown where a format shows one; the recommended one without it")(
      "output,o", po::value<std::string>(), "write to this file instead of standard output");
  const auto given = parse_options("report", "SWEEP is a sweep's folder or its sweep.json.",
                                   options, {"SWEEP"}, arguments, streams);
  if (!given) return ExitCode::done;
  const Exporter& exporter =
      *exporters()[choose("format", (*given)["format"].as<std::string>(), names)];
  const auto source = open_sweep((*given)["SWEEP"].as<std::string>(),
                                 {.row = option<std::size_t>(*given, "row"), .config = {}});
  if (const auto output = option<std::string>(*given, "output")) {
    std::ostringstream text;
    exporter.write(*source, text);
    write_file(*output, text.str());
  } else {
    exporter.write(*source, streams.out);
  }
  return ExitCode::done;
}

}  // namespace tidemark
