#include "command_report.hpp"

#include <filesystem>
#include <ostream>
#include <sstream>

#include "options.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

ExitCode run_report(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  po::options_description options("options");
  options.add_options()("format", po::value<std::string>()->default_value("table"),
                        "table, csv, markdown or json")(
      "output,o", po::value<std::string>(), "write to this file instead of standard output");
  const auto given = parse_options("report", "SWEEP is a sweep's folder or its sweep.json.",
                                   options, {"SWEEP"}, arguments, streams);
  if (!given) return ExitCode::done;
  std::vector<std::string> names;
  for (const Exporter* exporter : exporters()) names.emplace_back(exporter->name());
  const Exporter& exporter =
      *exporters()[choose("format", (*given)["format"].as<std::string>(), names)];
  std::filesystem::path path = (*given)["SWEEP"].as<std::string>();
  if (std::filesystem::is_directory(path)) path /= "sweep.json";
  const Sweep sweep = read_sweep(path.string());
  if (const auto output = option<std::string>(*given, "output")) {
    std::ostringstream text;
    exporter.write(sweep, text);
    write_file(*output, text.str());
  } else {
    exporter.write(sweep, streams.out);
  }
  return ExitCode::done;
}

}  // namespace tidemark
