// Comma-separated values, quoted as RFC 4180 says.
#include <ostream>
#include <string>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string text = "\"";
  for (const char c : cell) {
    if (c == '"') text += '"';
    text += c;
  }
  return text + "\"";
}

void write_record(const std::vector<std::string>& cells, std::ostream& out) {
  for (std::size_t c = 0; c < cells.size(); ++c) out << (c == 0 ? "" : ",") << quoted(cells[c]);
  out << "\r\n";
}

class CsvExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "csv"; }
  [[nodiscard]] std::string_view description() const override {
    return "full numbers, for spreadsheets and programs";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    const Sweep& sweep = source.sweep();
    std::vector<std::string> header;
    for (const Column& column : columns()) {
      if (!column.field.empty()) header.push_back(column.field);
    }
    write_record(header, out);
    for (const SweepRow& row : sweep.rows) {
      std::vector<std::string> cells;
      for (const Column& column : columns()) {
        if (!column.field.empty()) cells.push_back(for_programs(column.cell(sweep, row)));
      }
      write_record(cells, out);
    }
  }
};

}  // namespace

const Exporter& csv_exporter() {
  static const CsvExporter exporter;
  return exporter;
}

}  // namespace tidemark
