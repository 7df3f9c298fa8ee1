#include "columns.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace tidemark {

namespace {

// The plain step of the same sweep: what overhead is measured against.
const SweepRow* plain_row(const Sweep& sweep) {
  const auto found = std::find_if(sweep.rows.begin(), sweep.rows.end(), [](const SweepRow& row) {
    return row.status == Status::ok && row.predicted && row.is_plain();
  });
  return found == sweep.rows.end() ? nullptr : &*found;
}

using TimeOf = std::optional<double> StepFigures::*;

std::optional<double> measured_time(const SweepRow& row, TimeOf time) {
  return row.measured ? row.measured->figures.*time : std::nullopt;
}

std::optional<double> predicted_time(const SweepRow& row, TimeOf time) {
  return row.predicted ? (*row.predicted).*time : std::nullopt;
}

// The measured time where there is one, else the predicted one.
Cell best_time(const Sweep& sweep, const SweepRow& row, TimeOf time) {
  if (const auto seconds = measured_time(row, time)) return Duration{*seconds, false, false};
  if (const auto seconds = predicted_time(row, time)) {
    return Duration{*seconds, true, times_are_modelled(sweep)};
  }
  return {};
}

// Measured less measured, else predicted less predicted; never one less the other.
Cell overhead(const Sweep& sweep, const SweepRow& row) {
  const SweepRow* plain = plain_row(sweep);
  if (plain == nullptr) return {};
  constexpr TimeOf step = &StepFigures::step_seconds;
  if (const auto own = measured_time(row, step), base = measured_time(*plain, step); own && base) {
    return DurationDifference{*own - *base, false, false};
  }
  if (const auto own = predicted_time(row, step), base = predicted_time(*plain, step);
      own && base) {
    return DurationDifference{*own - *base, true, times_are_modelled(sweep)};
  }
  return {};
}

// Compares the peaks that the table shows; live ones where only one side knows the others.
Cell error(const Sweep& sweep, const SweepRow& row) {
  if (!row.measured || !row.predicted) return {};
  const StepFigures& measured = row.measured->figures;
  const StepFigures& predicted = *row.predicted;
  const bool know_the_same =
      measured.allocated_peak_bytes.has_value() == predicted.allocated_peak_bytes.has_value() &&
      measured.reserved_peak_bytes.has_value() == predicted.reserved_peak_bytes.has_value();
  const PeakLimit limit = know_the_same ? sweep.limit : PeakLimit::live;
  return ByteDifference{limiting_peak(measured, limit) - limiting_peak(predicted, limit)};
}

template <typename Number>
Cell or_nothing(const std::optional<Number>& value) {
  return value ? Cell(*value) : Cell();
}

Cell bytes_or_nothing(const std::optional<Bytes>& bytes) {
  return bytes ? Cell(ByteCount{*bytes}) : Cell();
}

std::string joined(const std::vector<std::string>& texts, const char* separator) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : separator) + text;
  return all;
}

std::string segments_text(const Setting& setting) {
  std::vector<std::string> segments;
  for (const auto& blocks : setting.segments) segments.push_back(joined(blocks, " "));
  return joined(segments, "; ");
}

std::string words(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

void add_people_columns(std::vector<Column>& all) {
  const auto add = [&](const char* title, bool is_number, auto cell) {
    all.push_back({.title = title, .field = "", .is_number = is_number, .cell = cell});
  };
  add("setting", false, [](const Sweep&, const SweepRow& row) -> Cell {
    return describe(row) + (row.yours ? " *" : "");
  });
  add("predicted peak", true, [](const Sweep& sweep, const SweepRow& row) -> Cell {
    if (!row.predicted) return {};
    return ByteCount{limiting_peak(*row.predicted, sweep.limit)};
  });
  add("measured peak", true, [](const Sweep& sweep, const SweepRow& row) -> Cell {
    if (!row.measured) return {};
    return ByteCount{limiting_peak(row.measured->figures, sweep.limit)};
  });
  add("error", true, error);
  add("step time", true, [](const Sweep& sweep, const SweepRow& row) {
    return best_time(sweep, row, &StepFigures::step_seconds);
  });
  add("recompute time", true, [](const Sweep& sweep, const SweepRow& row) {
    return best_time(sweep, row, &StepFigures::recompute_seconds);
  });
  add("overhead", true, overhead);
  add("host", true, [](const Sweep&, const SweepRow& row) -> Cell {
    return ByteCount{best_figures(row).host_peak_bytes};
  });
  add("moved", true, [](const Sweep&, const SweepRow& row) -> Cell {
    return ByteCount{best_figures(row).transfer_bytes};
  });
  add("peak term", false, [](const Sweep&, const SweepRow& row) -> Cell {
    return std::string(title(best_figures(row).peak_term));
  });
  add("fits", false, [](const Sweep&, const SweepRow& row) { return or_nothing(row.fits); });
  add("gradients", false,
      [](const Sweep&, const SweepRow& row) -> Cell { return words(name(row.gradients)); });
}

void add_setting_columns(std::vector<Column>& all) {
  const auto add = [&](const char* field, Cell (*cell)(const Setting&)) {
    all.push_back(
        {.title = "",
         .field = std::string("setting.") + field,
         .is_number = false,
         .cell = [cell](const Sweep&, const SweepRow& row) { return cell(row.setting); }});
  };
  add("number_checkpoints", [](const Setting& setting) -> Cell {
    if (!setting.number_checkpoints) return {};
    return std::int64_t{*setting.number_checkpoints};
  });
  add("uneven", [](const Setting& setting) -> Cell { return setting.uneven; });
  add("partition_activations",
      [](const Setting& setting) -> Cell { return setting.partition_activations; });
  add("cpu_checkpointing",
      [](const Setting& setting) -> Cell { return std::string(name(setting.cpu_checkpointing)); });
  add("contiguous_memory_optimization",
      [](const Setting& setting) -> Cell { return setting.contiguous_memory_optimization; });
  add("synchronize_checkpoint_boundary",
      [](const Setting& setting) -> Cell { return setting.synchronize_checkpoint_boundary; });
  add("profile", [](const Setting& setting) -> Cell { return setting.profile; });
  add("model_parallel_size",
      [](const Setting& setting) -> Cell { return std::int64_t{setting.model_parallel_size}; });
  add("method", [](const Setting& setting) -> Cell { return std::string(name(setting.method)); });
  add("deepspeed_version",
      [](const Setting& setting) -> Cell { return to_string(setting.deepspeed_version); });
  add("alloc_conf", [](const Setting& setting) -> Cell { return setting.alloc_conf; });
  add("segments", [](const Setting& setting) -> Cell { return segments_text(setting); });
}

struct FigureColumn {
  const char* field;
  Cell (*cell)(const StepFigures&);
};

Cell seconds_or_nothing(const std::optional<double>& seconds) {
  return seconds ? Cell(Duration{*seconds, false, false}) : Cell();
}

constexpr std::array<FigureColumn, 7> byte_figures{{
    {"live_peak_bytes", [](const StepFigures& f) -> Cell { return ByteCount{f.live_peak_bytes}; }},
    {"allocated_peak_bytes",
     [](const StepFigures& f) { return bytes_or_nothing(f.allocated_peak_bytes); }},
    {"reserved_peak_bytes",
     [](const StepFigures& f) { return bytes_or_nothing(f.reserved_peak_bytes); }},
    {"first_reserved_peak_bytes",
     [](const StepFigures& f) { return bytes_or_nothing(f.first_reserved_peak_bytes); }},
    {"host_peak_bytes", [](const StepFigures& f) -> Cell { return ByteCount{f.host_peak_bytes}; }},
    {"pinned_reserved_bytes",
     [](const StepFigures& f) { return bytes_or_nothing(f.pinned_reserved_bytes); }},
    {"static_bytes", [](const StepFigures& f) -> Cell { return ByteCount{f.static_bytes}; }},
}};

constexpr std::array<FigureColumn, 6> other_figures{{
    {"peak_term", [](const StepFigures& f) -> Cell { return std::string(key(f.peak_term)); }},
    {"peak_op",
     [](const StepFigures& f) -> Cell {
       if (!f.peak_op) return {};
       return std::int64_t{static_cast<std::int32_t>(*f.peak_op)};
     }},
    {"step_seconds", [](const StepFigures& f) { return seconds_or_nothing(f.step_seconds); }},
    {"recompute_seconds",
     [](const StepFigures& f) { return seconds_or_nothing(f.recompute_seconds); }},
    {"transfer_seconds",
     [](const StepFigures& f) { return seconds_or_nothing(f.transfer_seconds); }},
    {"transfer_bytes", [](const StepFigures& f) -> Cell { return ByteCount{f.transfer_bytes}; }},
}};

// The same fields for what was predicted and what was measured.
void add_figure_columns(std::vector<Column>& all, const std::string& kind,
                        const StepFigures* (*figures_of)(const SweepRow&)) {
  const auto add = [&](const std::string& field, auto cell) {
    all.push_back({.title = "",
                   .field = kind + "." + field,
                   .is_number = false,
                   .cell = [figures_of, cell](const Sweep&, const SweepRow& row) -> Cell {
                     const StepFigures* figures = figures_of(row);
                     return figures == nullptr ? Cell() : cell(*figures);
                   }});
  };
  for (const FigureColumn& figure : byte_figures) add(figure.field, figure.cell);
  for (std::size_t t = 0; t < term_count; ++t) {
    add("peak_breakdown." + std::string(key(static_cast<Term>(t))),
        [t](const StepFigures& figures) -> Cell { return ByteCount{figures.peak_breakdown[t]}; });
  }
  for (const FigureColumn& figure : other_figures) add(figure.field, figure.cell);
}

std::vector<Column> make_columns() {
  std::vector<Column> all;
  add_people_columns(all);
  const auto add = [&](const char* field, Cell (*cell)(const Sweep&, const SweepRow&)) {
    all.push_back({.title = "", .field = field, .is_number = false, .cell = cell});
  };
  add("planner",
      [](const Sweep&, const SweepRow& row) { return row.is_plan() ? Cell(row.planner) : Cell(); });
  add_setting_columns(all);
  add("yours", [](const Sweep&, const SweepRow& row) -> Cell { return row.yours; });
  add_figure_columns(all, "predicted",
                     [](const SweepRow& row) { return row.predicted ? &*row.predicted : nullptr; });
  add_figure_columns(all, "measured", [](const SweepRow& row) {
    return row.measured ? &row.measured->figures : nullptr;
  });
  add("measured.step_seconds_noise", [](const Sweep&, const SweepRow& row) {
    return row.measured ? seconds_or_nothing(row.measured->step_seconds_noise) : Cell();
  });
  add("fits", [](const Sweep&, const SweepRow& row) { return or_nothing(row.fits); });
  add("gradients",
      [](const Sweep&, const SweepRow& row) -> Cell { return std::string(name(row.gradients)); });
  add("status",
      [](const Sweep&, const SweepRow& row) -> Cell { return std::string(name(row.status)); });
  add("peak_operator", [](const Sweep&, const SweepRow& row) -> Cell { return row.peak_operator; });
  add("notes", [](const Sweep&, const SweepRow& row) -> Cell { return joined(row.notes, "; "); });
  return all;
}

// Text from a file must not drive the terminal or break the line.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

std::string digits(double value) {
  std::array<char, 40> text{};
  const auto [end, failed] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

struct ForPeople {
  std::string operator()(std::monostate) const { return "-"; }
  std::string operator()(const ByteCount& count) const { return format_bytes(count.bytes); }
  std::string operator()(const ByteDifference& difference) const {
    return (difference.bytes > 0 ? "+" : "") + std::to_string(difference.bytes) + " B";
  }
  std::string operator()(const Duration& duration) const {
    return (duration.is_predicted ? "~" : "") + format_seconds(duration.seconds) +
           (duration.is_modelled ? " modelled" : "");
  }
  std::string operator()(const DurationDifference& difference) const {
    return std::string(difference.is_predicted ? "~" : "") + (difference.seconds > 0 ? "+" : "") +
           format_seconds(difference.seconds) + (difference.is_modelled ? " modelled" : "");
  }
  std::string operator()(std::int64_t number) const { return std::to_string(number); }
  std::string operator()(bool flag) const { return flag ? "yes" : "no"; }
  std::string operator()(const std::string& text) const { return printable(text); }
};

struct ForPrograms {
  std::string operator()(std::monostate) const { return ""; }
  std::string operator()(const ByteCount& count) const { return std::to_string(count.bytes); }
  std::string operator()(const ByteDifference& difference) const {
    return std::to_string(difference.bytes);
  }
  std::string operator()(const Duration& duration) const { return digits(duration.seconds); }
  std::string operator()(const DurationDifference& difference) const {
    return digits(difference.seconds);
  }
  std::string operator()(std::int64_t number) const { return std::to_string(number); }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
  std::string operator()(const std::string& text) const { return text; }
};

}  // namespace

std::string for_people(const Cell& cell) { return std::visit(ForPeople{}, cell); }

std::string for_programs(const Cell& cell) { return std::visit(ForPrograms{}, cell); }

const std::vector<Column>& columns() {
  static const std::vector<Column> all = make_columns();
  return all;
}

std::vector<const Column*> titled_columns() {
  std::vector<const Column*> titled;
  for (const Column& column : columns()) {
    if (!column.title.empty()) titled.push_back(&column);
  }
  return titled;
}

}  // namespace tidemark
