// Two results row by row: a gate for regressions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tidemark/report.hpp"

namespace tidemark {

// One figure of both; absent where that side does not have it.
struct Compared {
  std::string name;  // "predicted peak"
  std::optional<double> first;
  std::optional<double> second;
  bool is_bytes = true;  // else seconds
  bool differs = false;  // by more than the tolerance
  // (second - first) / first, in percent.
  [[nodiscard]] std::optional<double> change_percent() const {
    if (!first || !second || *first == 0) return std::nullopt;
    return 100 * (*second - *first) / *first;
  }
};

struct ComparedRow {
  std::string title;  // the setting, as describe() gives it
  bool in_first = false;
  bool in_second = false;
  std::vector<Compared> figures;
  std::vector<std::string> changes;  // "status: ok, then out_of_memory"
  [[nodiscard]] bool differs() const;
};

struct Tolerances {
  double bytes_percent = 0;
  std::optional<double> time_percent;  // absent: times are shown and not judged
};

// Rows belong together by their settings, without the names of their blocks. A row that only one
// side has differs. In the order of `first`, then what only `second` has.
[[nodiscard]] std::vector<ComparedRow> compare(const Sweep& first, const Sweep& second,
                                               const Tolerances& tolerances);

// One row of each, whatever their settings.
[[nodiscard]] ComparedRow compare_rows(const std::string& title, const SweepRow& first,
                                       const SweepRow& second, const Tolerances& tolerances);

}  // namespace tidemark
