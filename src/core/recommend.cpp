// Which row to use, and why in one sentence.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/report.hpp"

namespace tidemark {

namespace {

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * fraction);
  return text;
}

class Recommender {
 public:
  explicit Recommender(Sweep& sweep) : sweep_(sweep) {}

  void recommend() {
    sweep_.recommended = {};
    find_fits();
    find_candidates();
    if (candidates_.empty()) return;
    choose_smallest();
    choose_fastest();
    choose_knee();
    choose_written();
  }

 private:
  [[nodiscard]] Bytes peak(std::size_t row) const {
    return limiting_peak(best_figures(sweep_.rows[row]), sweep_.limit);
  }
  // Rows without times compare by their peaks alone.
  [[nodiscard]] double time(std::size_t row) const {
    return sweep_.rows[row].predicted->step_seconds.value_or(0);
  }
  [[nodiscard]] bool has_times() const {
    return std::all_of(candidates_.begin(), candidates_.end(), [&](std::size_t row) {
      return sweep_.rows[row].predicted->step_seconds.has_value();
    });
  }
  [[nodiscard]] std::optional<std::size_t> plain_row() const {
    for (const std::size_t row : candidates_) {
      if (!sweep_.rows[row].setting.number_checkpoints) return row;
    }
    return std::nullopt;
  }

  void find_fits();
  void find_candidates();
  [[nodiscard]] std::string against_plain(std::size_t row) const;
  [[nodiscard]] std::string binding_term(std::size_t row) const;
  void choose_smallest();
  void choose_fastest();
  void choose_knee();
  void choose_written();

  Sweep& sweep_;
  std::vector<std::size_t> candidates_;
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
    if (sweep_.rows[row].status == Status::ok && sweep_.rows[row].predicted) {
      candidates_.push_back(row);
    }
  }
}

std::string Recommender::against_plain(std::size_t row) const {
  const auto plain = plain_row();
  if (!plain || *plain == row || peak(*plain) == 0) return "";
  const double less = 1 - static_cast<double>(peak(row)) / static_cast<double>(peak(*plain));
  std::string text =
      ", " + percent(std::abs(less)) + (less >= 0 ? " below" : " above") + " no checkpointing";
  if (has_times() && time(*plain) > 0) {
    const double more = time(row) / time(*plain) - 1;
    text += ", at " + percent(std::abs(more)) + (more >= 0 ? " more time" : " less time");
  }
  return text;
}

// The largest term at the peak, and whether moving checkpoints away could lower it.
std::string Recommender::binding_term(std::size_t row) const {
  const StepFigures& figures = best_figures(sweep_.rows[row]);
  std::string text =
      "; " + std::string(title(figures.peak_term)) + " (" +
      format_bytes(figures.peak_breakdown[static_cast<std::size_t>(figures.peak_term)]) +
      ") sets the peak";
  if (!sweep_.rows[row].peak_operator.empty()) text += " in " + sweep_.rows[row].peak_operator;
  const Bytes held = figures.peak_breakdown[static_cast<std::size_t>(Term::held_checkpoints)];
  const bool is_checkpointed = sweep_.rows[row].setting.number_checkpoints.has_value();
  if (is_checkpointed && figures.peak_term != Term::held_checkpoints) {
    text += held == 0 ? ", which offload cannot lower"
                      : ", of which offload could take away at most " + format_bytes(held);
  }
  return text;
}

void Recommender::choose_smallest() {
  const std::size_t row =
      *std::min_element(candidates_.begin(), candidates_.end(), [&](std::size_t a, std::size_t b) {
        return std::pair(peak(a), time(a)) < std::pair(peak(b), time(b));
      });
  sweep_.recommended.smallest = {row, "Smallest peak, " + format_bytes(peak(row)) +
                                          against_plain(row) + binding_term(row) + "."};
}

void Recommender::choose_fastest() {
  std::optional<std::size_t> best;
  for (const std::size_t row : candidates_) {
    if (!sweep_.rows[row].fits.value_or(true)) continue;
    const bool is_better =
        !best || std::pair(time(row), peak(row)) < std::pair(time(*best), peak(*best));
    if (is_better) best = row;
  }
  if (!best) {
    const Bytes least = peak(sweep_.recommended.smallest->row);
    sweep_.notes.push_back("no setting fits " + format_bytes(*sweep_.budget_bytes) +
                           "; the smallest needs " + format_bytes(least) + ", " +
                           format_bytes(least - *sweep_.budget_bytes) + " more");
    return;
  }
  std::string reason = has_times() ? "Fastest" : "Smallest, as no times are known,";
  if (sweep_.budget_bytes) reason += " that fits " + format_bytes(*sweep_.budget_bytes);
  reason +=
      " (" + format_bytes(peak(*best)) + ")" + against_plain(*best) + binding_term(*best) + ".";
  sweep_.recommended.fastest = {*best, reason};
}

// Between the fastest and the smallest row, both axes scaled to one, the row farthest below the
// line that joins them:
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
  const double peak_span = static_cast<double>(peak(fastest) - peak(smallest));
  const double time_span = time(smallest) - time(fastest);
  std::size_t knee = fastest;
  double farthest = 0;
  for (const std::size_t row : candidates_) {
    if (!sweep_.rows[row].fits.value_or(true) || peak_span <= 0 || time_span <= 0) continue;
    const double x = (time(row) - time(fastest)) / time_span;
    const double y = static_cast<double>(peak(row) - peak(smallest)) / peak_span;
    const double distance = 1 - x - y;
    if (distance > farthest + 1e-12) {
      farthest = distance;
      knee = row;
    }
  }
  // Without a trade (the smallest is also the fastest) there is no bend.
  if (peak_span > 0 && time_span <= 0) knee = smallest;
  sweep_.recommended.knee = {knee, "Best trade of time for memory (" + format_bytes(peak(knee)) +
                                       ")" + against_plain(knee) + binding_term(knee) + "."};
}

void Recommender::choose_written() {
  const auto plain = plain_row();
  const bool plain_does_not_fit = plain && !sweep_.rows[*plain].fits.value_or(true);
  if (sweep_.budget_bytes || plain_does_not_fit) {
    sweep_.recommended.written = sweep_.recommended.fastest;
  } else {
    sweep_.recommended.written = sweep_.recommended.knee;
  }
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

const StepFigures& best_figures(const SweepRow& row) {
  return row.measured ? row.measured->figures : *row.predicted;
}

void recommend(Sweep& sweep) { Recommender(sweep).recommend(); }

std::string describe(const Setting& setting) {
  if (!setting.number_checkpoints) return "none";
  std::string text = "K=" + std::to_string(*setting.number_checkpoints);
  if (setting.uneven) text += " uneven";
  if (setting.partition_activations) {
    text += ", partition M=" + std::to_string(setting.model_parallel_size);
  }
  if (setting.cpu_checkpointing != CpuCheckpointing::off) {
    text += ", cpu " + std::string(name(setting.cpu_checkpointing));
  }
  if (setting.contiguous_memory_optimization) text += ", contiguous";
  if (setting.method == Method::non_reentrant) text += ", non-reentrant";
  return text;
}

std::string format_bytes(Bytes bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (std::abs(value) >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  const int decimals = unit == 0 || std::abs(value) >= 100 ? 0 : std::abs(value) >= 10 ? 1 : 2;
  std::snprintf(text, sizeof text, "%.*f %s", decimals, value, units[unit]);
  return text;
}

std::string format_seconds(double seconds) {
  char text[48];
  if (std::abs(seconds) >= 1) {
    std::snprintf(text, sizeof text, "%.2f s", seconds);
  } else if (std::abs(seconds) >= 1e-3) {
    std::snprintf(text, sizeof text, "%.1f ms", seconds * 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.0f us", seconds * 1e6);
  }
  return text;
}

}  // namespace tidemark
