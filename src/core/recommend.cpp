// Which row to use, and why in one sentence.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

constexpr std::string_view nothing_fits = "No setting fits ";

// What sets a peak, as the beginning of a clause. In the order of Term.
struct TermClause {
  std::string_view subject;
  std::string_view verb;
};
constexpr std::array<TermClause, term_count> term_clauses{{
    {"static memory", "sets"},
    {"the held checkpoints", "set"},
    {"the contiguous pools", "set"},
    {"the saved generator states", "set"},
    {"the activations of the blocks", "set"},
    {"the recomputed segment", "sets"},
    {"embedding, head and loss", "set"},
    {"the gradients of activations", "set"},
    {"the parameters' gradients of this step", "set"},
    {"the optimizer step", "sets"},
    {"the restored state", "sets"},
    {"the workspace of one operator", "sets"},
}};

class Recommender {
 public:
  explicit Recommender(Sweep& sweep) : sweep_(sweep) {}

  void recommend() {
    sweep_.recommended = {};
    std::erase_if(sweep_.notes,
                  [](const std::string& note) { return note.starts_with(nothing_fits); });
    find_fits();
    find_candidates();
    choose_plan();
    if (candidates_.empty()) return;
    choose_smallest();
    choose_fastest();
    choose_knee();
    choose_written();
    compare_plan();
  }

 private:
  [[nodiscard]] const SweepRow& at(std::size_t row) const { return sweep_.rows[row]; }
  // What a step that did not finish reached is no peak of the setting; then the prediction is.
  [[nodiscard]] Bytes peak(std::size_t row) const {
    const bool is_finished = at(row).status == Status::ok;
    return limiting_peak(is_finished ? best_figures(at(row)) : *at(row).predicted, sweep_.limit);
  }
  // In whole nanoseconds, as the trace has them: sums of the same times in another order are a tie.
  // Unless every row has a time, none counts: rows then compare by their peaks alone.
  [[nodiscard]] double time(std::size_t row) const {
    return has_times_ ? std::round(1e9 * at(row).predicted->step_seconds.value_or(0)) : 0;
  }
  // A row fits also where there is no budget to exceed.
  [[nodiscard]] bool fits(std::size_t row) const { return at(row).fits.value_or(true); }

  void find_fits();
  void find_candidates();
  [[nodiscard]] std::string against_plain(std::size_t row) const;
  [[nodiscard]] std::string binding_term(std::size_t row) const;
  [[nodiscard]] bool is_lower_than(std::size_t row, std::size_t other) const;
  [[nodiscard]] std::string offload_clause(std::size_t row) const;
  [[nodiscard]] Recommendation because(std::size_t row, const std::string& beginning) const;
  void choose_smallest();
  void choose_fastest();
  [[nodiscard]] std::string tie_clause(std::size_t fastest) const;
  void choose_knee();
  void choose_written();
  void choose_plan();
  void compare_plan();

  Sweep& sweep_;
  std::vector<std::size_t> candidates_;
  std::optional<std::size_t> plain_;  // the step without checkpointing, finished or not
  bool has_times_ = false;
};

void Recommender::find_fits() {
  for (SweepRow& row : sweep_.rows) {
    row.fits.reset();
    if (!sweep_.budget_bytes) continue;
    if (row.status == Status::out_of_memory) row.fits = false;
    if (row.status != Status::ok || !row.predicted) continue;
    row.fits = limiting_peak(best_figures(row), sweep_.limit) <= *sweep_.budget_bytes;
  }
}

void Recommender::find_candidates() {
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    const bool is_setting = !at(row).is_plan();
    if (is_setting && at(row).status == Status::ok && at(row).predicted) candidates_.push_back(row);
  }
  has_times_ = std::all_of(candidates_.begin(), candidates_.end(), [&](std::size_t row) {
    return at(row).predicted->step_seconds.has_value();
  });
  for (std::size_t row = 0; row < sweep_.rows.size() && !plain_; ++row) {
    const bool ran = at(row).status == Status::ok || at(row).status == Status::out_of_memory;
    if (ran && at(row).predicted && at(row).is_plain()) plain_ = row;
  }
}

// " (812 MiB, 41 % below no checkpointing) at 12 % more time"
std::string Recommender::against_plain(std::size_t row) const {
  const std::string own = " (" + format_bytes(peak(row));
  if (!plain_ || *plain_ == row || peak(*plain_) <= 0) return own + ")";
  const double more = static_cast<double>(peak(row)) / static_cast<double>(peak(*plain_)) - 1;
  std::string text = own + ", ";
  text += more == 0 ? "as much as" : format_percent(more) + (more < 0 ? " below" : " above");
  text += " no checkpointing)";
  if (!has_times_ || time(*plain_) <= 0) return text;
  const double slower = time(row) / time(*plain_) - 1;
  if (slower == 0) return text + " in the same time";
  return text + " at " + format_percent(slower) + (slower > 0 ? " more time" : " less time");
}

// Measured with measured or predicted with predicted, never one with the other.
bool Recommender::is_lower_than(std::size_t row, std::size_t other) const {
  if (at(row).measured && at(other).measured) return peak(row) < peak(other);
  return limiting_peak(*at(row).predicted, sweep_.limit) <
         limiting_peak(*at(other).predicted, sweep_.limit);
}

// Whether moving checkpoints to the host lowers this row's peak: told from the same setting with
// offload where the sweep has it, else from the checkpoints held at the peak.
std::string Recommender::offload_clause(std::size_t row) const {
  const Setting& own = at(row).setting;
  if (!own.number_checkpoints || own.cpu_checkpointing != CpuCheckpointing::off) return "";
  bool is_known = false;
  bool is_lower = false;
  for (const std::size_t other : candidates_) {
    Setting setting = at(other).setting;
    if (setting.cpu_checkpointing == CpuCheckpointing::off) continue;
    setting.cpu_checkpointing = CpuCheckpointing::off;
    setting.segments = own.segments;  // derived from the rest
    if (setting != own) continue;
    is_known = true;
    is_lower = is_lower || is_lower_than(other, row);
  }
  if (is_known) return is_lower ? "" : "; offload does not lower it";
  const Bytes held =
      best_figures(at(row)).peak_breakdown[static_cast<std::size_t>(Term::held_checkpoints)];
  return held == 0 ? "; offload cannot lower it"
                   : "; offload could lower it by " + format_bytes(held) + " at most";
}

std::string Recommender::binding_term(std::size_t row) const {
  const StepFigures& figures = best_figures(at(row));
  const auto term = static_cast<std::size_t>(figures.peak_term);
  std::string text = "; " + std::string(term_clauses.at(term).subject);
  if (figures.peak_breakdown.at(term) > 0) {
    text += " (" + format_bytes(figures.peak_breakdown.at(term)) + ")";
  }
  text += " " + std::string(term_clauses.at(term).verb) + " the peak";
  if (!at(row).peak_operator.empty()) text += " during " + at(row).peak_operator;
  return text + offload_clause(row);
}

Recommendation Recommender::because(std::size_t row, const std::string& beginning) const {
  return {.row = row, .reason = beginning + against_plain(row) + binding_term(row) + "."};
}

void Recommender::choose_smallest() {
  const std::size_t row =
      *std::min_element(candidates_.begin(), candidates_.end(), [&](std::size_t a, std::size_t b) {
        return std::pair(peak(a), time(a)) < std::pair(peak(b), time(b));
      });
  sweep_.recommended.smallest = because(row, "Smallest peak");
}

void Recommender::choose_fastest() {
  std::optional<std::size_t> best;
  for (const std::size_t row : candidates_) {
    if (!fits(row)) continue;
    const bool is_better =
        !best || std::pair(time(row), peak(row)) < std::pair(time(*best), peak(*best));
    if (is_better) best = row;
  }
  if (!best) {
    const Bytes least = peak(sweep_.recommended.smallest->row);
    sweep_.notes.push_back(std::string(nothing_fits) + format_bytes(*sweep_.budget_bytes) +
                           "; the smallest needs " + format_bytes(least) + ", " +
                           format_bytes(least - *sweep_.budget_bytes) + " more.");
    return;
  }
  std::string beginning = has_times_ ? "Fastest" : "No times are known; the smallest";
  if (sweep_.budget_bytes) beginning += " that fits " + format_bytes(*sweep_.budget_bytes);
  sweep_.recommended.fastest = because(*best, beginning + tie_clause(*best));
}

// Settings that make the same operators again are equally fast, whatever single runs of them take.
std::string Recommender::tie_clause(std::size_t fastest) const {
  if (!has_times_) return "";
  const auto ties = std::count_if(candidates_.begin(), candidates_.end(), [&](std::size_t row) {
    return fits(row) && time(row) == time(fastest);
  });
  if (ties == 1) return "";
  return ", smallest of " + std::to_string(ties) + " with the same predicted time";
}

// Between the fastest and the smallest row, both axes scaled to one, the row farthest below the
// line that joins them. It lies on the Pareto front, since a row that is better in both lies
// farther below:
//
//   peak 1 F.
//        |  `.        F fastest, S smallest, K the knee
//        |K   `.
//      0 |______`S
//        0       1 time
void Recommender::choose_knee() {
  if (!sweep_.recommended.fastest) return;
  const std::size_t fastest = sweep_.recommended.fastest->row;
  const std::size_t smallest = sweep_.recommended.smallest->row;
  const auto peak_span = static_cast<double>(peak(fastest) - peak(smallest));
  const double time_span = time(smallest) - time(fastest);
  if (peak_span <= 0 || time_span <= 0) {
    sweep_.recommended.knee =
        because(fastest, has_times_ ? "Fastest and smallest at once" : "Smallest peak");
    return;
  }
  std::size_t knee = fastest;
  double farthest = 0;
  for (const std::size_t row : candidates_) {
    if (!fits(row) || row == fastest || row == smallest) continue;
    const double x = (time(row) - time(fastest)) / time_span;
    const double y = static_cast<double>(peak(row) - peak(smallest)) / peak_span;
    if (1 - x - y > farthest) {
      farthest = 1 - x - y;
      knee = row;
    }
  }
  sweep_.recommended.knee =
      because(knee, knee == fastest ? "No setting saves memory at less than its share of the time, "
                                      "so this is the fastest"
                                    : "Best trade of time for memory");
}

void Recommender::choose_written() {
  const bool plain_does_not_fit =
      plain_ && (at(*plain_).status == Status::out_of_memory || !fits(*plain_));
  const bool is_budget_given = sweep_.budget_bytes && !sweep_.is_default_budget;
  sweep_.recommended.written =
      is_budget_given || plain_does_not_fit ? sweep_.recommended.fastest : sweep_.recommended.knee;
}

void Recommender::choose_plan() {
  std::optional<std::size_t> best;
  const auto seconds = [&](std::size_t row) { return at(row).predicted->step_seconds.value_or(0); };
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    const bool ran = at(row).status == Status::ok && at(row).predicted;
    if (!at(row).is_plan() || !ran || !fits(row)) continue;
    if (!best || seconds(row) < seconds(*best)) best = row;
  }
  if (best) sweep_.recommended.plan = because(*best, "Decided operator by operator");
}

// What settings leave on the table.
void Recommender::compare_plan() {
  auto& plan = sweep_.recommended.plan;
  if (!plan) return;
  plan->reason.pop_back();
  const auto& fastest = sweep_.recommended.fastest;
  if (!fastest) {
    plan->reason += "; no setting fits.";
    return;
  }
  plan->reason += "; ";
  const double change =
      has_times_ && time(fastest->row) > 0 && at(plan->row).predicted->step_seconds
          ? time(plan->row) / time(fastest->row) - 1
          : 0;
  plan->reason += change == 0
                      ? "as fast as"
                      : format_percent(change) + (change < 0 ? " less" : " more") + " time than";
  plan->reason += " the fastest setting that fits (" + describe(at(fastest->row)) + ").";
}

}  // namespace

Bytes limiting_peak(const StepFigures& figures, PeakLimit limit) {
  switch (limit) {
    case PeakLimit::live:
      return figures.live_peak_bytes;
    case PeakLimit::allocated:
      return figures.allocated_peak_bytes.value_or(figures.live_peak_bytes);
    case PeakLimit::automatic:
    case PeakLimit::reserved:
      break;
  }
  return figures.reserved_peak_bytes.value_or(figures.live_peak_bytes);
}

bool times_are_modelled(const Sweep& sweep) {
  return !sweep.time_model.empty() || sweep.device.kind == DeviceKind::phantom;
}

const StepFigures& best_figures(const SweepRow& row) {
  if (row.measured) return row.measured->figures;
  if (!row.predicted) throw InternalError("a row without figures was asked for its figures");
  return *row.predicted;
}

void recommend(Sweep& sweep) { Recommender(sweep).recommend(); }

std::string describe(const Setting& setting) {
  const bool is_plain = !setting.number_checkpoints;
  std::string text =
      is_plain ? "none"
               : (setting.uneven ? "uneven:" : "") + std::to_string(*setting.number_checkpoints);
  if (setting.partition_activations) {
    text += ", partition M=" + std::to_string(setting.model_parallel_size);
  }
  if (setting.cpu_checkpointing != CpuCheckpointing::off) {
    text += ", cpu " + std::string(name(setting.cpu_checkpointing));
  }
  if (setting.contiguous_memory_optimization) text += ", contiguous";
  if (setting.synchronize_checkpoint_boundary) text += ", synchronize";
  if (setting.profile) text += ", profile";
  if (!is_plain && setting.method != Method::reentrant) {
    text += ", " + std::string(name(setting.method));
  }
  if (!setting.alloc_conf.empty()) text += ", " + setting.alloc_conf;
  return text;
}

std::string describe(const SweepRow& row) {
  if (!row.is_plan()) return describe(row.setting);
  const std::string& conf = row.setting.alloc_conf;
  return "plan by " + row.planner + (conf.empty() ? "" : ", " + conf);
}

std::string format_bytes(Bytes bytes) {
  static constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 1023.5 would be rounded to 1024 of the smaller unit.
  while (std::abs(value) >= 1023.5 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  const double size = std::abs(value);
  const bool is_whole = value == std::floor(value);
  const int decimals = is_whole || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, units.at(unit));
  return text.data();
}

std::string format_percent(double fraction) {
  const double value = 100 * std::abs(fraction);
  if (value > 0 && value < 0.05) return "less than 0.1 %";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 9.95 ? "%.1f %%" : "%.0f %%", value);
  return text.data();
}

std::string format_seconds(double seconds) {
  struct Unit {
    double least;
    double per_second;
    const char* name;
  };
  // The least value of each unit is where the next smaller one would round up to 1000.
  static constexpr std::array<Unit, 3> units{{
      {0.9995, 1, "s"},
      {0.9995e-3, 1e3, "ms"},
      {0, 1e6, "us"},
  }};
  if (seconds == 0) return "0 s";
  const Unit& unit = *std::find_if(units.begin(), units.end(), [&](const Unit& candidate) {
    return std::abs(seconds) >= candidate.least;
  });
  const double value = seconds * unit.per_second;
  const double size = std::abs(value);
  const int decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, unit.name);
  return text.data();
}

}  // namespace tidemark
