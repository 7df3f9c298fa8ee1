// A GitHub table, for pull requests.
#include <ostream>
#include <string>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

std::string escaped(const std::string& cell) {
  std::string text;
  for (const char c : cell) {
    if (c == '|' || c == '*') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  return text;
}

class MarkdownExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "markdown"; }
  [[nodiscard]] std::string_view description() const override {
    return "a table for pull requests and notes";
  }
  void write(const Sweep& sweep, std::ostream& out) const override {
    out << '|';
    for (const PeopleColumn& column : people_columns()) out << ' ' << column.title << " |";
    out << "\n|";
    for (const PeopleColumn& column : people_columns())
      out << (column.is_number ? " ---: |" : " --- |");
    out << '\n';
    for (std::size_t row = 0; row < sweep.rows.size(); ++row) {
      out << '|';
      for (const std::string& cell : people_cells(sweep, row)) out << ' ' << escaped(cell) << " |";
      out << '\n';
    }
    out << '\n';
    for (const std::string& line : closing_lines(sweep)) out << "- " << escaped(line) << '\n';
  }
};

}  // namespace

const Exporter& markdown_exporter() {
  static const MarkdownExporter exporter;
  return exporter;
}

}  // namespace tidemark
