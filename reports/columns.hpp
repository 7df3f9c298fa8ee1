// The columns of a sweep, once for every format that has columns.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tidemark/report.hpp"

namespace tidemark {

struct ByteCount {
  Bytes bytes = 0;
};
struct ByteDifference {
  Bytes bytes = 0;
};
struct Duration {
  double seconds = 0;
  bool is_predicted = false;  // people see a ~, so that nobody takes it for a measured one
  bool is_modelled = false;   // not even the operators' times were measured: people see the word
};
struct DurationDifference {
  double seconds = 0;
  bool is_predicted = false;
  bool is_modelled = false;
};

// One figure of a row; monostate: it does not apply or is not known.
using Cell = std::variant<std::monostate, ByteCount, ByteDifference, Duration, DurationDifference,
                          std::int64_t, bool, std::string>;

// "5.41 GiB", "~12.3 ms", "yes", "-".
[[nodiscard]] std::string for_people(const Cell& cell);
// "5808872161", "0.0123", "true", "": every digit, no unit.
[[nodiscard]] std::string for_programs(const Cell& cell);

struct Column {
  std::string title;  // in tables for people; empty: not there
  std::string field;  // in CSV: the place in a row of sweep.json; empty: not there
  bool is_number = false;
  std::function<Cell(const Sweep&, const SweepRow&)> cell;
};

[[nodiscard]] const std::vector<Column>& columns();
// Those that have a title, in order.
[[nodiscard]] std::vector<const Column*> titled_columns();

// A row as people see it, a cell for each titled column. Of a row that did not run there is the
// first cell, and `status` with its reason stands in place of the others.
struct PeopleRow {
  std::vector<std::string> cells;
  std::optional<std::string> status;
};
// Whether there is anything to show: a row that was refused has none.
[[nodiscard]] bool has_figures(const SweepRow& row);
[[nodiscard]] PeopleRow people_row(const Sweep& sweep, const SweepRow& row);

// A note, and the settings that it is about.
struct SharedNote {
  std::string text;
  std::vector<std::string> settings;
};
// What many rows share is told once; what the table itself tells is left out.
[[nodiscard]] std::vector<SharedNote> shared_notes(const Sweep& sweep);
// "4; 4, cpu async; 6; and 3 more"
[[nodiscard]] std::string settings_named(const SharedNote& note);

// Which peak the table shows and what its marks mean, a line each.
[[nodiscard]] std::vector<std::string> legend_lines(const Sweep& sweep);

// What stands under a table: which peak it shows, the legend, the recommendations and the notes, a
// line each.
[[nodiscard]] std::vector<std::string> closing_lines(const Sweep& sweep);

// How many columns of a terminal a UTF-8 text takes: none for combining marks, two for the wide
// characters of East Asia and for pictures.
[[nodiscard]] std::size_t display_width(std::string_view text);

}  // namespace tidemark
