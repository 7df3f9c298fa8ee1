// Boost.Program_options, as every command uses it.
#pragma once

#include <boost/program_options.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "command.hpp"

namespace tidemark {

// Parses a command's options; each name in `positionals` takes one positional argument, all of
// them required, and more are refused. Gives nullopt when --help was asked for and printed. Throws
// UsageError.
[[nodiscard]] std::optional<boost::program_options::variables_map> parse_options(
    const std::string& command, const std::string& summary,
    const boost::program_options::options_description& options,
    const std::vector<std::string>& positionals, const Arguments& arguments,
    const Streams& streams);

// The option's value, or nullopt when it was not given.
template <typename Value>
[[nodiscard]] std::optional<Value> option(const boost::program_options::variables_map& given,
                                          const std::string& name) {
  if (given.count(name) == 0) return std::nullopt;
  return given[name].as<Value>();
}

// One of several words; throws UsageError listing them.
[[nodiscard]] std::size_t choose(const std::string& option, const std::string& value,
                                 const std::vector<std::string>& words);

[[nodiscard]] std::vector<std::string> split_list(const std::string& text);

}  // namespace tidemark
