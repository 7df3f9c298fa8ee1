#include "columns.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

namespace tidemark {

namespace {

// The plain step of the same sweep: what overhead is measured against.
const SweepRow* plain_row(const Sweep& sweep) {
  const auto found = std::find_if(sweep.rows.begin(), sweep.rows.end(), [](const SweepRow& row) {
    return row.status == Status::ok && !row.setting.number_checkpoints;
  });
  return found == sweep.rows.end() ? nullptr : &*found;
}

struct Times {
  std::optional<double> step;
  std::optional<double> recompute;
  bool is_measured = false;
};

Times times(const SweepRow& row) {
  if (row.measured && row.measured->figures.step_seconds) {
    return {row.measured->figures.step_seconds, row.measured->figures.recompute_seconds, true};
  }
  if (!row.predicted) return {};
  return {row.predicted->step_seconds, row.predicted->recompute_seconds, false};
}

// A predicted time carries a ~ so that nobody takes it for a measured one.
std::string time_cell(const std::optional<double>& seconds, bool is_measured) {
  if (!seconds) return "-";
  return (is_measured ? "" : "~") + format_seconds(*seconds);
}

std::string overhead_cell(const Sweep& sweep, const SweepRow& row) {
  const SweepRow* plain = plain_row(sweep);
  if (plain == nullptr || plain == &row) return "-";
  const Times own = times(row);
  const Times base = times(*plain);
  if (!own.step || !base.step || *base.step <= 0 || own.is_measured != base.is_measured) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%+.1f %%", 100 * (*own.step / *base.step - 1));
  return text;
}

std::string error_cell(const SweepRow& row) {
  if (!row.measured) return "-";
  const Bytes error = row.measured->figures.live_peak_bytes - row.predicted->live_peak_bytes;
  return std::to_string(error) + " B";
}

// A setting that did not run: its status, and its reason where the numbers would stand.
std::vector<std::string> status_cells(const SweepRow& row) {
  std::vector<std::string> cells(people_columns().size());
  cells[0] = describe(row.setting) + (row.yours ? " *" : "");
  cells[1] = std::string(name(row.status)) + (row.notes.empty() ? "" : ": " + row.notes.front());
  return cells;
}

std::string number(double value) {
  std::array<char, 40> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}
std::string number(Bytes value) { return std::to_string(value); }

template <typename Value>
std::string or_empty(const std::optional<Value>& value) {
  return value ? number(*value) : "";
}

std::string truth(bool flag) { return flag ? "true" : "false"; }

void add_figures(const StepFigures* figures, std::vector<std::string>& cells) {
  if (figures == nullptr) {
    cells.insert(cells.end(), 11, "");
    return;
  }
  cells.push_back(number(figures->live_peak_bytes));
  cells.push_back(or_empty(figures->allocated_peak_bytes));
  cells.push_back(or_empty(figures->reserved_peak_bytes));
  cells.push_back(number(figures->host_peak_bytes));
  cells.push_back(or_empty(figures->pinned_reserved_bytes));
  cells.push_back(number(figures->static_bytes));
  cells.emplace_back(key(figures->peak_term));
  cells.push_back(or_empty(figures->step_seconds));
  cells.push_back(or_empty(figures->recompute_seconds));
  cells.push_back(or_empty(figures->transfer_seconds));
  cells.push_back(number(figures->transfer_bytes));
}

void add_recommendation(const char* kind, const std::optional<Recommendation>& recommendation,
                        const Sweep& sweep, std::vector<std::string>& lines) {
  if (!recommendation) return;
  lines.push_back(std::string(kind) + ": " + describe(sweep.rows[recommendation->row].setting) +
                  ". " + recommendation->reason);
}

}  // namespace

const std::vector<PeopleColumn>& people_columns() {
  static const std::vector<PeopleColumn> columns{
      {"setting", false},  {"predicted peak", true}, {"measured peak", true}, {"error", true},
      {"step time", true}, {"recompute time", true}, {"overhead", true},      {"host", true},
      {"moved", true},     {"peak term", false},     {"fits", false},         {"gradients", false}};
  return columns;
}

std::vector<std::string> people_cells(const Sweep& sweep, std::size_t at) {
  const SweepRow& row = sweep.rows[at];
  if (row.status != Status::ok || !row.predicted) return status_cells(row);
  const StepFigures& figures = best_figures(row);
  const Times time = times(row);
  const auto bytes_or_dash = [](Bytes bytes) { return bytes == 0 ? "-" : format_bytes(bytes); };
  return {describe(row.setting) + (row.yours ? " *" : ""),
          format_bytes(limiting_peak(*row.predicted, sweep.limit)),
          row.measured ? format_bytes(limiting_peak(row.measured->figures, sweep.limit)) : "-",
          error_cell(row),
          time_cell(time.step, time.is_measured),
          time_cell(time.recompute, time.is_measured),
          overhead_cell(sweep, row),
          bytes_or_dash(figures.host_peak_bytes),
          bytes_or_dash(figures.transfer_bytes),
          std::string(title(figures.peak_term)),
          row.fits ? (*row.fits ? "yes" : "no") : "-",
          std::string(name(row.gradients))};
}

const std::vector<std::string>& data_columns() {
  static const std::vector<std::string> columns = [] {
    std::vector<std::string> names{"number_checkpoints",
                                   "partition_activations",
                                   "model_parallel_size",
                                   "cpu_checkpointing",
                                   "contiguous_memory_optimization",
                                   "method",
                                   "deepspeed_version",
                                   "yours",
                                   "status",
                                   "fits",
                                   "gradients"};
    for (const std::string kind : {"predicted", "measured"}) {
      for (const char* figure :
           {"live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "host_peak_bytes",
            "pinned_reserved_bytes", "static_bytes", "peak_term", "step_seconds",
            "recompute_seconds", "transfer_seconds", "transfer_bytes"}) {
        names.push_back(kind + "." + figure);
      }
    }
    names.emplace_back("measured.step_seconds_noise");
    names.emplace_back("notes");
    return names;
  }();
  return columns;
}

std::vector<std::string> data_cells(const SweepRow& row) {
  const Setting& setting = row.setting;
  std::vector<std::string> cells{
      setting.number_checkpoints ? std::to_string(*setting.number_checkpoints) : "",
      truth(setting.partition_activations),
      std::to_string(setting.model_parallel_size),
      std::string(name(setting.cpu_checkpointing)),
      truth(setting.contiguous_memory_optimization),
      std::string(name(setting.method)),
      to_string(setting.deepspeed_version),
      truth(row.yours),
      std::string(name(row.status)),
      row.fits ? truth(*row.fits) : "",
      std::string(name(row.gradients))};
  add_figures(row.predicted ? &*row.predicted : nullptr, cells);
  add_figures(row.measured ? &row.measured->figures : nullptr, cells);
  cells.push_back(row.measured ? or_empty(row.measured->step_seconds_noise) : "");
  std::string notes;
  for (const std::string& note : row.notes) notes += (notes.empty() ? "" : "; ") + note;
  cells.push_back(notes);
  return cells;
}

std::vector<std::string> closing_lines(const Sweep& sweep) {
  std::vector<std::string> lines;
  const bool has_yours = std::any_of(sweep.rows.begin(), sweep.rows.end(),
                                     [](const SweepRow& row) { return row.yours; });
  const bool has_predicted_times =
      std::any_of(sweep.rows.begin(), sweep.rows.end(), [](const SweepRow& row) {
        return row.status == Status::ok && row.predicted && !row.measured;
      });
  if (has_yours) lines.emplace_back("* your configuration");
  if (has_predicted_times) lines.emplace_back("~ predicted, not measured");
  add_recommendation("fastest", sweep.recommended.fastest, sweep, lines);
  add_recommendation("smallest", sweep.recommended.smallest, sweep, lines);
  add_recommendation("knee", sweep.recommended.knee, sweep, lines);
  if (sweep.recommended.written) {
    lines.push_back("recommended: " + describe(sweep.rows[sweep.recommended.written->row].setting));
  }
  // A note that many rows share is told once.
  std::vector<std::string> told;
  for (const SweepRow& row : sweep.rows) {
    if (row.status != Status::ok) continue;
    for (const std::string& note : row.notes) {
      if (std::find(told.begin(), told.end(), note) == told.end()) told.push_back(note);
    }
  }
  told.insert(told.end(), sweep.notes.begin(), sweep.notes.end());
  for (const std::string& note : told) lines.push_back("note: " + note);
  return lines;
}

}  // namespace tidemark
