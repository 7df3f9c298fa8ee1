// The table on a terminal.
#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

// Characters, not bytes: names of modules may hold any letters.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string padded(const std::string& text, std::size_t wanted, bool to_the_right) {
  const std::size_t own = width(text);
  const std::string space(wanted > own ? wanted - own : 0, ' ');
  return to_the_right ? space + text : text + space;
}

void write_line(std::string line, std::ostream& out) {
  line.erase(line.find_last_not_of(' ') + 1);
  out << line << '\n';
}

class TableExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "table"; }
  [[nodiscard]] std::string_view description() const override {
    return "aligned text, for terminals";
  }

  void write(const Sweep& sweep, std::ostream& out) const override {
    const std::vector<PeopleColumn>& columns = people_columns();
    std::vector<std::vector<std::string>> lines(1);
    for (const PeopleColumn& column : columns) lines[0].emplace_back(column.title);
    for (std::size_t row = 0; row < sweep.rows.size(); ++row) {
      lines.push_back(people_cells(sweep, row));
    }
    std::vector<std::size_t> widths(columns.size(), 0);
    for (std::size_t l = 0; l < lines.size(); ++l) {
      const bool is_status = l > 0 && sweep.rows[l - 1].status != Status::ok;
      const std::size_t cells = is_status ? 1 : columns.size();  // a reason runs over the rest
      for (std::size_t c = 0; c < cells; ++c) widths[c] = std::max(widths[c], width(lines[l][c]));
    }
    for (std::size_t l = 0; l < lines.size(); ++l) {
      const bool is_status = l > 0 && sweep.rows[l - 1].status != Status::ok;
      std::string line;
      for (std::size_t c = 0; c < columns.size(); ++c) {
        const bool is_reason = is_status && c == 1;
        line += (c == 0 ? "" : "  ") +
                padded(lines[l][c], is_reason ? 0 : widths[c], columns[c].is_number && !is_reason);
        if (is_reason) break;
      }
      write_line(line, out);
      if (l == 0) {
        std::size_t total = 2 * (columns.size() - 1);
        for (const std::size_t w : widths) total += w;
        out << std::string(total, '-') << '\n';
      }
    }
    out << '\n';
    for (const std::string& line : closing_lines(sweep)) out << line << '\n';
  }
};

}  // namespace

const Exporter& table_exporter() {
  static const TableExporter exporter;
  return exporter;
}

}  // namespace tidemark
