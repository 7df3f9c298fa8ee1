// The table on a terminal.
#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

constexpr std::size_t gap = 2;
constexpr std::string_view number_title = "row";

std::string padded(const std::string& text, std::size_t wanted, bool is_to_the_right) {
  const std::size_t own = display_width(text);
  const std::string space(wanted > own ? wanted - own : 0, ' ');
  return is_to_the_right ? space + text : text + space;
}

// Lines up the cells, behind each row's number as --row takes it; a status runs over the columns
// that it stands for.
class TableWriter {
 public:
  explicit TableWriter(std::ostream& out) : out_(out), columns_(titled_columns()) {}

  void write(const Sweep& sweep) {
    PeopleRow header;
    for (const Column* column : columns_) header.cells.push_back(column->title);
    rows_.push_back(header);
    for (const SweepRow& row : sweep.rows) rows_.push_back(people_row(sweep, row));
    number_width_ = std::max(number_title.size(), std::to_string(sweep.rows.size()).size());
    find_widths();
    write_row(std::string(number_title), rows_.front());
    out_ << std::string(total_, '-') << '\n';
    for (std::size_t r = 1; r < rows_.size(); ++r) write_row(std::to_string(r - 1), rows_[r]);
    out_ << '\n';
    for (const std::string& line : closing_lines(sweep)) out_ << line << '\n';
  }

 private:
  void find_widths() {
    widths_.assign(columns_.size(), 0);
    for (const PeopleRow& row : rows_) {
      for (std::size_t c = 0; c < row.cells.size(); ++c) {
        widths_[c] = std::max(widths_[c], display_width(row.cells[c]));
      }
    }
    total_ = number_width_ + gap * columns_.size();
    for (const std::size_t width : widths_) total_ += width;
  }

  void write_row(const std::string& number, const PeopleRow& row) {
    std::string line = padded(number, number_width_, true);
    for (std::size_t c = 0; c < row.cells.size(); ++c) {
      line += std::string(gap, ' ');
      line += padded(row.cells[c], widths_[c], columns_[c]->is_number);
    }
    if (row.status) line += std::string(gap, ' ') + *row.status;
    line.erase(line.find_last_not_of(' ') + 1);
    out_ << line << '\n';
  }

  std::ostream& out_;
  std::vector<const Column*> columns_;
  std::vector<PeopleRow> rows_;
  std::vector<std::size_t> widths_;
  std::size_t number_width_ = 0;
  std::size_t total_ = 0;
};

class TableExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "table"; }
  [[nodiscard]] std::string_view description() const override {
    return "aligned text, for terminals";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    TableWriter(out).write(source.sweep());
  }
};

}  // namespace

const Exporter& table_exporter() {
  static const TableExporter exporter;
  return exporter;
}

}  // namespace tidemark
