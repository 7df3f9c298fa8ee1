#include "options.hpp"

#include <algorithm>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace po = boost::program_options;

std::optional<po::variables_map> parse_options(const std::string& command,
                                               const std::string& summary,
                                               const po::options_description& options,
                                               const std::vector<std::string>& positionals,
                                               const Arguments& arguments, const Streams& streams) {
  po::options_description all;
  all.add(options);
  all.add_options()("help,h", "print this help");
  po::options_description hidden;
  po::positional_options_description order;
  std::string usage = "usage: tidemark " + command;
  for (const std::string& name : positionals) {
    hidden.add_options()(name.c_str(), po::value<std::string>());
    order.add(name.c_str(), 1);
    usage += " " + name;
  }
  po::options_description known;
  known.add(all).add(hidden);
  po::variables_map given;
  try {
    // Abbreviated options would change their meaning when a new option comes.
    const int style =
        po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::store(
        po::command_line_parser(arguments).options(known).positional(order).style(style).run(),
        given);
  } catch (const po::too_many_positional_options_error&) {
    throw UsageError("tidemark " + command + " takes " + std::to_string(positionals.size()) +
                     " argument" + (positionals.size() == 1 ? "" : "s") + "; see tidemark " +
                     command + " --help");
  } catch (const po::error& error) {
    throw UsageError(std::string(error.what()) + "; see tidemark " + command + " --help");
  }
  if (given.count("help") != 0) {
    streams.out << usage << " [options]\n" << summary << "\n" << all;
    return std::nullopt;
  }
  for (const std::string& name : positionals) {
    if (given.count(name) == 0) {
      throw UsageError("tidemark " + command + " needs " + name + "; see tidemark " + command +
                       " --help");
    }
  }
  return given;
}

std::size_t choose(const std::string& option, const std::string& value,
                   const std::vector<std::string>& words) {
  const auto found = std::find(words.begin(), words.end(), value);
  if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  std::string listed;
  for (const std::string& word : words) listed += (listed.empty() ? "" : ", ") + word;
  throw UsageError("--" + option + " takes one of " + listed + ", not '" + value + "'");
}

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

}  // namespace tidemark
