#include "tidemark/compare.hpp"

#include <algorithm>
#include <cmath>

namespace tidemark {

namespace {

bool is_beyond(const Compared& figure, double percent) {
  if (!figure.first && !figure.second) return false;
  if (!figure.first || !figure.second) return true;
  const double change = std::abs(*figure.second - *figure.first);
  return change > percent / 100 * std::abs(*figure.first);
}

std::optional<double> as_number(const std::optional<Bytes>& bytes) {
  return bytes ? std::optional(static_cast<double>(*bytes)) : std::nullopt;
}

const StepFigures* predicted(const SweepRow& row) {
  return row.predicted ? &*row.predicted : nullptr;
}
const StepFigures* measured(const SweepRow& row) {
  return row.measured ? &row.measured->figures : nullptr;
}

class RowComparison {
 public:
  RowComparison(const SweepRow& first, const SweepRow& second, const Tolerances& tolerances)
      : first_(first), second_(second), tolerances_(tolerances) {}

  ComparedRow run(const std::string& title) {
    row_.title = title;
    row_.in_first = true;
    row_.in_second = true;
    const auto both = [&](const std::string& kind, const StepFigures* a, const StepFigures* b) {
      if (a == nullptr || b == nullptr) return;
      add_bytes(kind + " live peak", a->live_peak_bytes, b->live_peak_bytes);
      add_bytes(kind + " allocated peak", a->allocated_peak_bytes, b->allocated_peak_bytes);
      add_bytes(kind + " reserved peak", a->reserved_peak_bytes, b->reserved_peak_bytes);
      add_bytes(kind + " host peak", a->host_peak_bytes, b->host_peak_bytes);
      add_time(kind + " step time", a->step_seconds, b->step_seconds);
    };
    both("predicted", predicted(first_), predicted(second_));
    both("measured", measured(first_), measured(second_));
    add_words("status", name(first_.status), name(second_.status));
    // A side that was not executed judges nothing.
    if (first_.gradients != GradientVerdict::not_run &&
        second_.gradients != GradientVerdict::not_run) {
      add_words("gradients", name(first_.gradients), name(second_.gradients));
    }
    return std::move(row_);
  }

 private:
  void add_bytes(const std::string& name, std::optional<Bytes> first, std::optional<Bytes> second) {
    if (!first && !second) return;
    Compared figure{.name = name, .first = as_number(first), .second = as_number(second)};
    figure.differs = is_beyond(figure, tolerances_.bytes_percent);
    row_.figures.push_back(std::move(figure));
  }

  void add_time(const std::string& name, std::optional<double> first,
                std::optional<double> second) {
    if (!first && !second) return;
    Compared figure{.name = name, .first = first, .second = second, .is_bytes = false};
    figure.differs = tolerances_.time_percent && is_beyond(figure, *tolerances_.time_percent);
    row_.figures.push_back(std::move(figure));
  }

  void add_words(const std::string& what, std::string_view first, std::string_view second) {
    if (first == second) return;
    row_.changes.push_back(what + ": " + std::string(first) + ", then " + std::string(second));
  }

  const SweepRow& first_;
  const SweepRow& second_;
  const Tolerances& tolerances_;
  ComparedRow row_;
};

Setting without_names(Setting setting) {
  setting.segments.clear();
  return setting;
}

const SweepRow* find_row(const Sweep& sweep, const SweepRow& wanted) {
  const auto found = std::find_if(sweep.rows.begin(), sweep.rows.end(), [&](const SweepRow& row) {
    return row.planner == wanted.planner &&
           without_names(row.setting) == without_names(wanted.setting);
  });
  return found == sweep.rows.end() ? nullptr : &*found;
}

}  // namespace

bool ComparedRow::differs() const {
  return !in_first || !in_second || !changes.empty() ||
         std::any_of(figures.begin(), figures.end(), [](const Compared& f) { return f.differs; });
}

ComparedRow compare_rows(const std::string& title, const SweepRow& first, const SweepRow& second,
                         const Tolerances& tolerances) {
  return RowComparison(first, second, tolerances).run(title);
}

std::vector<ComparedRow> compare(const Sweep& first, const Sweep& second,
                                 const Tolerances& tolerances) {
  std::vector<ComparedRow> rows;
  for (const SweepRow& row : first.rows) {
    const SweepRow* other = find_row(second, row);
    if (other != nullptr) {
      rows.push_back(compare_rows(describe(row), row, *other, tolerances));
    } else {
      rows.push_back({.title = describe(row), .in_first = true, .figures = {}, .changes = {}});
    }
  }
  for (const SweepRow& row : second.rows) {
    if (find_row(first, row) != nullptr) continue;
    rows.push_back({.title = describe(row), .in_second = true, .figures = {}, .changes = {}});
  }
  return rows;
}

}  // namespace tidemark
