#include "command_export.hpp"

#include <ostream>
#include <sstream>

#include "options.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/export.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

ExitCode run_export(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  std::vector<std::string> names;
  std::string listed;
  for (const Target* target : targets()) {
    names.emplace_back(target->name());
    listed += (listed.empty() ? "" : ", ") + names.back();
  }
  po::options_description options("options");
  options.add_options()("to", po::value<std::string>(), listed.c_str())(
      "row", po::value<std::size_t>(), "the row that is written; the recommended one without it")(
      "config", po::value<std::string>(), "your ds_config.json; the one in the folder without it")(
      "output,o", po::value<std::string>(), "write to this file instead of standard output");
  const auto given =
      parse_options("export", "SWEEP is a sweep's folder, its sweep.json, or a plan.json.", options,
                    {"SWEEP"}, arguments, streams);
  if (!given) return ExitCode::done;
  const auto to = option<std::string>(*given, "to");
  if (!to) throw UsageError("tidemark export needs --to TARGET, one of " + listed);
  const Target& target = *targets()[choose("to", *to, names)];
  const auto source = open_result(
      (*given)["SWEEP"].as<std::string>(),
      {.row = option<std::size_t>(*given, "row"), .config = option<std::string>(*given, "config")});
  std::ostringstream text;
  target.write(*source, text);
  if (const auto output = option<std::string>(*given, "output")) {
    write_file(*output, text.str());
  } else {
    streams.out << text.str();
  }
  return ExitCode::done;
}

}  // namespace tidemark
