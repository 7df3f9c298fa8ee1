#include "tidemark/explain.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <utility>
#include <variant>

#include "peak_replay.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

PeakReplay::PeakReplay(const StepTrace& trace, const Schedule& schedule) {
  replay(trace, schedule, *this);
}

void PeakReplay::came(const Instance& instance) {
  if (instance.place != Place::device) return;
  by_term_[static_cast<std::size_t>(instance.term)] += instance.bytes;
  alive_.push_back(instance);
}

void PeakReplay::went(const Instance& instance) {
  if (instance.place != Place::device) return;
  by_term_[static_cast<std::size_t>(instance.term)] -= instance.bytes;
  // What came last usually goes first.
  const auto found = std::find(alive_.rbegin(), alive_.rend(), instance);
  if (found == alive_.rend()) throw InternalError("an instance went that never came");
  alive_.erase(std::next(found).base());
}

void PeakReplay::during(std::size_t step, Bytes live_bytes, Bytes) {
  for (std::size_t t = 0; t < term_count; ++t) {
    without_[t] = std::max(without_[t], live_bytes - by_term_[t]);
  }
  if (live_bytes <= peak_) return;
  peak_ = live_bytes;
  peak_step_ = step;
  holders_ = alive_;
}

std::string_view key(Effect effect) {
  static constexpr std::array<std::string_view, 4> keys{"lowers", "changes_nothing", "raises",
                                                        "may_lower"};
  return keys.at(static_cast<std::size_t>(effect));
}

namespace {

constexpr std::size_t most_holders = 8;

// In the order of Role.
constexpr std::array<std::string_view, 9> role_names{"parameter",       "buffer",     "input",
                                                     "constant",        "activation", "gradient",
                                                     "optimizer state", "temporary",  "output"};

class Explainer {
 public:
  explicit Explainer(const ReportSource& source)
      : source_(source), sweep_(source.sweep()), row_(chosen_row(source)) {
    if (!own().predicted) {
      throw UsageError("row " + std::to_string(row_) + " (" + describe(own()) +
                       ") has no prediction to explain" +
                       (own().notes.empty() ? "" : ": " + own().notes.front()));
    }
    const StepTrace* trace = source.trace();
    const RowDetail* detail = trace == nullptr ? nullptr : source.detail(row_);
    if (detail != nullptr && !detail->schedule.steps.empty()) {
      replay_.emplace(*trace, detail->schedule);
      position_ = {replay_->peak_step(), detail->schedule.steps.size()};
    }
  }

  Explanation run() {
    told_.row = row_;
    told_.peak_bytes = figures().live_peak_bytes;
    tell_where();
    add_parts();
    if (replay_) add_holders();
    add_counts();
    add_switches();
    add_plans();
    add_bounds();
    add_allocator();
    return std::move(told_);
  }

 private:
  [[nodiscard]] const SweepRow& own() const { return sweep_.rows.at(row_); }
  [[nodiscard]] const StepFigures& figures() const { return *own().predicted; }
  [[nodiscard]] Bytes part(Term term) const {
    return figures().peak_breakdown[static_cast<std::size_t>(term)];
  }
  // What is left of the peak without a term: exact from a replay, else of this one moment.
  [[nodiscard]] Bytes without(Term term) const {
    return replay_ ? replay_->peak_without(term) : figures().live_peak_bytes - part(term);
  }

  void tell_where();
  void add_parts();
  void add_holders();
  void add_counts();
  void add_switches();
  void add_plans();
  void add_bounds();
  void add_allocator();
  [[nodiscard]] std::optional<std::size_t> least_reserved(
      const std::function<bool(const Setting&)>& is_meant) const;
  [[nodiscard]] Lever compared(const std::string& name, std::size_t row, Bytes its, Bytes mine,
                               const std::string& peaks) const;
  [[nodiscard]] Lever reserved_lever(const std::string& name, std::size_t row) const;
  void add_bound(const std::string& name, const std::string& what, Term term);
  void add_row_lever(const std::string& name, std::size_t row);
  void add_best(const std::string& name, const std::function<bool(const Setting&)>& is_meant);

  const ReportSource& source_;
  const Sweep& sweep_;
  std::size_t row_;
  std::optional<PeakReplay> replay_;
  std::pair<std::size_t, std::size_t> position_{};
  Explanation told_;
};

void Explainer::tell_where() {
  std::string text =
      "The peak lies in " +
      (own().peak_operator.empty() ? "a step that runs no operator" : own().peak_operator);
  if (replay_) {
    text +=
        ", step " + std::to_string(position_.first + 1) + " of " + std::to_string(position_.second);
  }
  told_.where = text + ".";
}

void Explainer::add_parts() {
  for (std::size_t t = 0; t < term_count; ++t) {
    const auto term = static_cast<Term>(t);
    if (part(term) == 0) continue;
    told_.parts.push_back(
        {.term = term,
         .bytes = part(term),
         .peak_without = replay_ ? std::optional(replay_->peak_without(term)) : std::nullopt});
  }
  std::stable_sort(told_.parts.begin(), told_.parts.end(),
                   [](const PeakPart& a, const PeakPart& b) { return a.bytes > b.bytes; });
}

void Explainer::add_holders() {
  const StepTrace& trace = *source_.trace();
  std::vector<const Op*> makers(trace.storages.size(), nullptr);
  for (const Op& op : trace.ops) {
    for (const StorageId made : op.creates) makers[index(made)] = &op;
  }
  std::map<std::string, PeakHolder> kinds;
  for (const Instance& instance : replay_->holders()) {
    std::string what(title(instance.term));
    if (instance.storage != no_storage) {
      const Storage& storage = trace.storages[index(instance.storage)];
      const Op* maker = makers[index(instance.storage)];
      if (maker != nullptr) {
        what = "made by " + maker->name + ", " + std::string(title(instance.term));
      } else {
        what = std::string(role_names.at(static_cast<std::size_t>(storage.role))) + ", static";
      }
    }
    PeakHolder& kind = kinds[what];
    kind.what = what;
    ++kind.count;
    kind.bytes += instance.bytes;
  }
  for (auto& [what, kind] : kinds) told_.holders.push_back(std::move(kind));
  std::stable_sort(told_.holders.begin(), told_.holders.end(),
                   [](const PeakHolder& a, const PeakHolder& b) { return a.bytes > b.bytes; });
  if (told_.holders.size() > most_holders) told_.holders.resize(most_holders);
}

// What another row comes to, up to the end of the sentence: `peaks` is what its peak does.
Lever Explainer::compared(const std::string& name, std::size_t row, Bytes its, Bytes mine,
                          const std::string& peaks) const {
  const SweepRow& other = sweep_.rows[row];
  Lever lever{.name = name,
              .effect = Effect::changes_nothing,
              .peak_bytes = its,
              .row = row,
              .step_seconds = other.predicted->step_seconds,
              .reason = ""};
  const Bytes change = its - mine;
  if (change < 0) lever.effect = Effect::lowers;
  if (change > 0) lever.effect = Effect::raises;
  lever.reason =
      describe(other) + " (row " + std::to_string(row) + ") " + peaks + " " + format_bytes(its);
  lever.reason += change == 0 ? ", the same"
                              : ", " + format_bytes(change < 0 ? -change : change) +
                                    (change < 0 ? " less" : " more");
  return lever;
}

void Explainer::add_row_lever(const std::string& name, std::size_t row) {
  Lever lever = compared(name, row, sweep_.rows[row].predicted->live_peak_bytes, told_.peak_bytes,
                         "peaks at");
  if (lever.step_seconds && figures().step_seconds) {
    // In whole nanoseconds, as the trace has them: sums in another order are the same time.
    const double later = std::round(1e9 * (*lever.step_seconds - *figures().step_seconds)) / 1e9;
    lever.reason += later == 0 ? ", in the same time"
                               : ", and takes " + format_seconds(std::abs(later)) +
                                     (later < 0 ? " less" : " more");
  }
  lever.reason += ".";
  told_.levers.push_back(std::move(lever));
}

// The lowest of the rows that are meant; the faster one where two are as low.
void Explainer::add_best(const std::string& name,
                         const std::function<bool(const Setting&)>& is_meant) {
  std::optional<std::size_t> best;
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    const SweepRow& other = sweep_.rows[row];
    if (row == row_ || other.is_plan() || !other.predicted || !is_meant(other.setting)) continue;
    const auto rank = [&](std::size_t r) {
      const StepFigures& its = *sweep_.rows[r].predicted;
      return std::pair(its.live_peak_bytes, its.step_seconds.value_or(0));
    };
    if (!best || rank(row) < rank(*best)) best = row;
  }
  if (best) add_row_lever(name, *best);
}

// The same setting but for the count.
void Explainer::add_counts() {
  const Setting& mine = own().setting;
  const auto differs_in_count = [&](const Setting& other, bool is_more) {
    Setting same = other;
    same.number_checkpoints = mine.number_checkpoints;
    same.segments = mine.segments;
    const std::int32_t count = other.number_checkpoints.value_or(0);
    const std::int32_t own_count = mine.number_checkpoints.value_or(0);
    if (is_more ? count <= own_count : count >= own_count) return false;
    // No checkpointing has no other switches, so any plain row compares with it.
    return same == mine || !other.number_checkpoints;
  };
  add_best(mine.number_checkpoints ? "more checkpoints" : "checkpointing",
           [&](const Setting& other) { return differs_in_count(other, true); });
  if (mine.number_checkpoints) {
    add_best("fewer checkpoints",
             [&](const Setting& other) { return differs_in_count(other, false); });
  }
}

// The same setting with one switch turned.
void Explainer::add_switches() {
  const Setting& mine = own().setting;
  if (!mine.number_checkpoints) return;  // nor has a plan switches
  const auto same_but = [&](const Setting& other, auto Setting::*field) {
    Setting same = other;
    same.segments = mine.segments;
    same.*field = mine.*field;
    return same == mine && other.*field != mine.*field;
  };
  const std::size_t before = told_.levers.size();
  add_best(mine.cpu_checkpointing == CpuCheckpointing::off ? "offload of checkpoints"
                                                           : "another form of offload",
           [&](const Setting& other) { return same_but(other, &Setting::cpu_checkpointing); });
  if (told_.levers.size() == before && mine.cpu_checkpointing == CpuCheckpointing::off) {
    add_bound("offload of checkpoints", "the held checkpoints", Term::held_checkpoints);
  }
  const std::size_t offloaded = told_.levers.size();
  add_best(mine.partition_activations ? "no partitioning" : "partitioning of checkpoints",
           [&](const Setting& other) { return same_but(other, &Setting::partition_activations); });
  if (told_.levers.size() == offloaded && !mine.partition_activations) {
    add_bound("partitioning of checkpoints", "the held checkpoints", Term::held_checkpoints);
  }
  add_best("the other method",
           [&](const Setting& other) { return same_but(other, &Setting::method); });
}

void Explainer::add_plans() {
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    if (row == row_ || !sweep_.rows[row].is_plan() || !sweep_.rows[row].predicted) continue;
    add_row_lever("decisions operator by operator", row);
  }
}

void Explainer::add_bound(const std::string& name, const std::string& what, Term term) {
  Lever lever{.name = name,
              .effect = Effect::changes_nothing,
              .peak_bytes = without(term),
              .row = {},
              .step_seconds = {},
              .reason = ""};
  if (lever.peak_bytes < told_.peak_bytes) {
    lever.effect = Effect::may_lower;
    lever.reason = "Without " + what + " at all the peak would be " +
                   format_bytes(lever.peak_bytes) + ", " +
                   format_bytes(told_.peak_bytes - lever.peak_bytes) + " less.";
  } else {
    lever.peak_bytes = told_.peak_bytes;
    lever.reason =
        "Even without " + what + " the peak would be " + format_bytes(told_.peak_bytes) + ".";
  }
  told_.levers.push_back(std::move(lever));
}

void Explainer::add_bounds() {
  add_bound("smaller logits, or the loss in slices", "embedding, head and loss",
            Term::outside_blocks);
  if (part(Term::gradients) > 0) {
    add_bound("parameter gradients sharded or freed early", "this step's parameter gradients",
              Term::gradients);
  }
  if (const StepTrace* trace = source_.trace()) {
    Bytes states = 0;
    const std::vector<bool> is_static = static_storages(*trace);
    for (std::size_t s = 0; s < trace->storages.size(); ++s) {
      if (is_static[s] && trace->storages[s].role == Role::optimizer_state) {
        states += trace->storages[s].bytes;
      }
    }
    Lever lever{.name = "optimizer states smaller, sharded or offloaded",
                .effect = states > 0 ? Effect::may_lower : Effect::changes_nothing,
                .peak_bytes = told_.peak_bytes - states,
                .row = {},
                .step_seconds = {},
                .reason = states > 0 ? "They are " + format_bytes(states) +
                                           " of the static memory, at every moment."
                                     : "The recorded step has none."};
    told_.levers.push_back(std::move(lever));
  }
}

// The row that reserves least among those that are meant.
std::optional<std::size_t> Explainer::least_reserved(
    const std::function<bool(const Setting&)>& is_meant) const {
  std::optional<std::size_t> best;
  const auto reserved = [&](std::size_t r) {
    return sweep_.rows[r].predicted->reserved_peak_bytes.value_or(0);
  };
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    const SweepRow& other = sweep_.rows[row];
    const bool has_figure = other.predicted && other.predicted->reserved_peak_bytes;
    if (row == row_ || other.is_plan() || !has_figure || !is_meant(other.setting)) continue;
    if (!best || reserved(row) < reserved(*best)) best = row;
  }
  return best;
}

Lever Explainer::reserved_lever(const std::string& name, std::size_t row) const {
  Lever lever = compared(name, row, *sweep_.rows[row].predicted->reserved_peak_bytes,
                         *figures().reserved_peak_bytes, "reserves");
  lever.reason += ".";
  return lever;
}

void Explainer::add_allocator() {
  if (!figures().allocated_peak_bytes || !figures().reserved_peak_bytes) return;
  AllocatorPeak allocator{.allocated_bytes = *figures().allocated_peak_bytes,
                          .reserved_bytes = *figures().reserved_peak_bytes,
                          .levers = {}};
  const Setting& mine = own().setting;
  const auto another_conf = least_reserved([&](const Setting& other) {
    Setting same = other;
    same.alloc_conf = mine.alloc_conf;
    same.segments = mine.segments;
    return same == mine && other.alloc_conf != mine.alloc_conf;
  });
  if (another_conf) {
    allocator.levers.push_back(reserved_lever("another --alloc-conf", *another_conf));
  }
  const auto another_setting =
      least_reserved([&](const Setting& other) { return other.alloc_conf == mine.alloc_conf; });
  if (another_setting) {
    allocator.levers.push_back(reserved_lever("the setting that reserves least", *another_setting));
  }
  const bool can_fall = allocator.allocated_bytes < allocator.reserved_bytes;
  allocator.levers.push_back(
      {.name = "an allocator that wastes nothing",
       .effect = can_fall ? Effect::may_lower : Effect::changes_nothing,
       .peak_bytes = allocator.allocated_bytes,
       .row = {},
       .step_seconds = {},
       .reason = can_fall ? "Segments without gaps would take the " +
                                format_bytes(allocator.allocated_bytes) + " of the blocks, " +
                                format_bytes(allocator.reserved_bytes - allocator.allocated_bytes) +
                                " less; try --alloc-conf expandable_segments:True."
                          : "The segments have no gaps at their most."});
  told_.allocator = std::move(allocator);
}

}  // namespace

Explanation explain(const ReportSource& source) { return Explainer(source).run(); }

}  // namespace tidemark
