#include "json_reading.hpp"

#include <algorithm>

#include "nesting.hpp"

namespace tidemark {

namespace {

std::string line_and_column(const std::string& text, std::size_t byte) {
  const std::size_t end = std::min(byte == 0 ? 0 : byte - 1, text.size());
  const auto stop = text.begin() + static_cast<std::ptrdiff_t>(end);
  const auto lines = std::count(text.begin(), stop, '\n');
  const std::size_t newline = text.rfind('\n', end == 0 ? 0 : end - 1);
  const std::size_t column =
      newline == std::string::npos || newline >= end ? end + 1 : end - newline;
  return "line " + std::to_string(lines + 1) + ", column " + std::to_string(column);
}

void check_format_name(const std::string& file, const Json& document, const std::string& format) {
  const bool names_a_format =
      document.is_object() && document.contains("format") && document["format"].is_string();
  const std::string found = names_a_format ? document["format"].get<std::string>() : "";
  if (found == format) return;
  throw InputError(
      file, "",
      (found.starts_with("tidemark.")
           ? "is a " + one_line(beginning(found)) + " file where a " + format + " file is wanted"
           : "is not a " + format + " file") +
          "; give one that tidemark wrote");
}

}  // namespace

Json parse_document(const std::string& file, const std::string& text) {
  try {
    return Json::parse(text, [](int depth, Json::parse_event_t, Json&) {
      if (depth > deepest_nesting) throw std::length_error("nested too deep");
      return true;
    });
  } catch (const Json::parse_error& error) {
    throw InputError(file, line_and_column(text, error.byte),
                     "is not valid JSON; the file is truncated or damaged, write or copy it again");
  } catch (const Json::out_of_range&) {
    throw InputError(file, "",
                     "holds a number that is too large; the file is damaged or was edited by hand");
  } catch (const std::length_error&) {
    throw InputError(file, "",
                     "is nested deeper than any file of this kind; the file is damaged or was "
                     "edited by hand");
  }
}

void check_format(const std::string& file, const Json& document, const std::string& format,
                  std::int32_t newest_version) {
  check_format_name(file, document, format);
  const JsonCursor root(file, document, "");
  const std::int64_t version = root.at("schema_version").integer(1);
  if (version > newest_version) {
    throw InputError(file, "schema_version",
                     "is " + std::to_string(version) +
                         ": a newer tidemark wrote this file, and this one reads versions up to " +
                         std::to_string(newest_version) + "; use a newer tidemark");
  }
}

std::string to_text(const OrderedJson& document, int indentation) {
  return document.dump(indentation, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace tidemark
