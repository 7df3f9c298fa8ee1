#include "options.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <sstream>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace po = boost::program_options;

namespace {

constexpr std::size_t help_width = 100;

// "-o, --output OUTPUT": the name once more stands for the value.
std::string synopsis(const po::option_description& option) {
  const std::string& name = option.long_name();
  const std::string both = option.format_name();  // "-o [ --output ]" or "--output"
  std::string text = both.starts_with("--") ? "    --" + name : both.substr(0, 2) + ", --" + name;
  if (option.semantic()->max_tokens() == 0) return text;
  std::string value = name.substr(name.rfind('-') + 1);
  for (char& c : value) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text + " " + value;
}

// What the option means, and what holds without it.
std::string meaning(const po::option_description& option) {
  const std::string parameter = option.format_parameter();  // "arg (=auto)"
  const std::size_t begin = parameter.find("(=");
  if (begin == std::string::npos) return option.description();
  const std::size_t end = parameter.rfind(')');
  return option.description() + " [" + parameter.substr(begin + 2, end - begin - 2) + "]";
}

// Lines of whole words, the later ones indented.
void write_wrapped(const std::string& text, std::size_t indent, std::ostream& out) {
  std::istringstream words(text);
  std::size_t column = indent;
  for (std::string word; words >> word;) {
    if (column > indent && column + 1 + word.size() > help_width) {
      out << '\n' << std::string(indent, ' ');
      column = indent;
    }
    out << (column > indent ? " " : "") << word;
    column += word.size() + (column > indent ? 1 : 0);
  }
  out << '\n';
}

void write_help(const po::options_description& options, std::ostream& out) {
  std::size_t widest = 0;
  for (const auto& option : options.options()) {
    widest = std::max(widest, synopsis(*option).size());
  }
  const std::size_t indent = widest + 4;
  for (const auto& option : options.options()) {
    const std::string name = synopsis(*option);
    out << "  " << name << std::string(indent - 2 - name.size(), ' ');
    write_wrapped(meaning(*option), indent, out);
  }
}

}  // namespace

std::optional<po::variables_map> parse_options(const std::string& command,
                                               const std::string& summary,
                                               const po::options_description& options,
                                               const std::vector<std::string>& positionals,
                                               const Arguments& arguments, const Streams& streams) {
  po::options_description all;
  for (const auto& option : options.options()) all.add(option);
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
    streams.out << usage << " [options]\n" << summary << "\n\n";
    write_help(all, streams.out);
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
