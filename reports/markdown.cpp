// A GitHub table, for pull requests.
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

// What GitHub would take for its own syntax.
std::string escaped(const std::string& text) {
  static constexpr std::string_view syntax = "\\|*_~`<>[]";
  std::string plain;
  for (const char c : text) {
    if (syntax.find(c) != std::string_view::npos) plain += '\\';
    plain += c;
  }
  return plain;
}

void write_row(const Sweep& sweep, const SweepRow& row, std::ostream& out) {
  const PeopleRow people = people_row(sweep, row);
  out << '|';
  for (const std::string& cell : people.cells) out << ' ' << escaped(cell) << " |";
  if (people.status) {
    out << ' ' << escaped(*people.status) << " |";
    for (std::size_t c = 2; c < titled_columns().size(); ++c) out << " |";
  }
  out << '\n';
}

// Where the figures come from, for whoever reads the table without the folder.
std::string origin(const Sweep& sweep) {
  std::string text = "from: ";
  const auto add = [&](const std::string& part) {
    if (!part.empty()) text += (text.ends_with(' ') ? "" : ", ") + for_people(part);
  };
  add(sweep.provenance.model);
  add(std::string(name(sweep.device.kind)) +
      (sweep.device.name.empty() ? "" : " (" + sweep.device.name + ")"));
  add(sweep.provenance.framework);
  add(sweep.provenance.tool);
  add(sweep.provenance.created);
  add("step " + sweep.fingerprint);
  return text;
}

class MarkdownExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "markdown"; }
  [[nodiscard]] std::string_view description() const override {
    return "a table for pull requests and notes";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    const Sweep& sweep = source.sweep();
    out << '|';
    for (const Column* column : titled_columns()) out << ' ' << column->title << " |";
    out << "\n|";
    for (const Column* column : titled_columns()) out << (column->is_number ? " ---: |" : " --- |");
    out << '\n';
    for (const SweepRow& row : sweep.rows) write_row(sweep, row, out);
    out << '\n';
    for (const std::string& line : closing_lines(sweep)) out << "- " << escaped(line) << '\n';
    out << "- " << escaped(origin(sweep)) << '\n';
  }
};

}  // namespace

const Exporter& markdown_exporter() {
  static const MarkdownExporter exporter;
  return exporter;
}

}  // namespace tidemark
