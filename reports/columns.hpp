// The columns of a sweep, once for every format that has columns.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tidemark/report.hpp"

namespace tidemark {

// For people: "5.41 GiB". `cells` of a row that did not run hold its status and reason instead.
struct PeopleColumn {
  std::string_view title;
  bool is_number = true;
};
[[nodiscard]] const std::vector<PeopleColumn>& people_columns();
[[nodiscard]] std::vector<std::string> people_cells(const Sweep& sweep, std::size_t row);

// For programs: full numbers under the names of sweep.json.
[[nodiscard]] const std::vector<std::string>& data_columns();
[[nodiscard]] std::vector<std::string> data_cells(const SweepRow& row);

// The recommendation, the legend and the notes that stand under a table, a line each.
[[nodiscard]] std::vector<std::string> closing_lines(const Sweep& sweep);

}  // namespace tidemark
