#include "search.hpp"

#include <algorithm>
#include <limits>

#include "at.hpp"

namespace tidemark::tide {

namespace {

constexpr std::size_t tried_candidates = 6;
constexpr std::size_t looked_at_candidates = 24;
constexpr std::uint32_t question_interval = 64;

// The first presence at or after p.
std::size_t presence_from(const std::vector<Presence>& all, Position p) {
  const auto found = std::lower_bound(
      all.begin(), all.end(), p, [](const Presence& entry, Position q) { return entry.at < q; });
  return static_cast<std::size_t>(found - all.begin());
}

bool is_rebuilt(const std::vector<Presence>& all, std::size_t from) {
  return from + 1 < all.size() && !all[from].is_held && !all[from].is_moved &&
         all[from + 1].is_used && !all[from + 1].is_fetched;
}

}  // namespace

Search::Search(const StepGraph& graph, std::function<bool()> should_stop)
    : graph_(graph),
      should_stop_(std::move(should_stop)),
      index_of_(at(graph.value_count()), 0),
      estimate_(at(graph.value_count()), 0) {
  for (Position p = 0; p < graph.end(); ++p) {
    for (const ValueId v : graph.at(p).creates) {
      index_of_[at(v)] = values_.size();
      values_.push_back(v);
      estimate_[at(v)] = static_cast<double>(graph.at(p).nanoseconds);
      for (const Position writer : graph.value(v).writers) {
        estimate_[at(v)] += static_cast<double>(graph.at(writer).nanoseconds);
      }
    }
  }
}

bool Search::is_stopped() {
  if (is_stopped_ || !should_stop_) return is_stopped_;
  if (until_next_question_-- > 0) return false;
  until_next_question_ = question_interval;
  is_stopped_ = should_stop_();
  return is_stopped_;
}

// ---- plans to start from ----------------------------------------------------------------------

std::unique_ptr<Retention> Search::from_cut(const ResidentCut& cut, Repeated repeated) const {
  auto plan = std::make_unique<Retention>(graph_, cut.offloads());
  for (const ValueId v : values_) {
    const std::vector<Presence>& all = plan->presences(v);
    const std::size_t next = presence_from(all, cut.moment());
    const bool is_crossing = next > 0 && next < all.size() && all[next].at != cut.moment();
    const bool may_go = is_crossing && !all[next - 1].is_fetched && !all[next].is_fetched;
    if (!may_go || cut.is_resident(v)) continue;
    plan->set_held(v, next - 1, next, false);
  }
  if (!plan->settle(repeated == Repeated::held)) return nullptr;
  plan->forget();
  return plan;
}

std::unique_ptr<Retention> Search::from_schedule(const Schedule& schedule) const {
  struct Life {
    Position begin;
    Position end;
  };
  std::vector<std::vector<Life>> lives(at(graph_.value_count()));
  std::vector<std::size_t> life_of(schedule.instances.size(), 0);
  std::vector<char> has_run(at(graph_.end()), 0);
  Position position = 0;
  const auto use = [&](InstanceId id) {
    const auto v = static_cast<ValueId>(schedule.instances[index(id)].storage);
    if (v < 0 || graph_.is_static(v) || lives[at(v)].empty()) return;
    lives[at(v)][life_of[index(id)]].end = position;
  };
  for (const Step& step : schedule.steps) {
    const auto* run = std::get_if<Run>(&step.action);
    if (run == nullptr) continue;
    const bool is_first = has_run[index(run->op)] == 0;
    for (const InstanceId id : run->reads) use(id);
    for (const InstanceId id : run->writes) use(id);
    for (const InstanceId id : run->creates) {
      if (id == unnamed_instance) continue;
      const auto v = static_cast<ValueId>(schedule.instances[index(id)].storage);
      life_of[index(id)] = lives[at(v)].size();
      lives[at(v)].push_back({position, position});
    }
    has_run[index(run->op)] = 1;
    if (is_first) ++position;
  }
  for (const ValueId v : graph_.at(graph_.end()).operands) {
    if (!lives[at(v)].empty()) lives[at(v)].back().end = graph_.end();
  }
  auto plan = std::make_unique<Retention>(graph_);
  for (const bool holds_repeated : {true, false}) {
    for (const ValueId v : values_) {
      const std::vector<Presence>& all = plan->presences(v);
      for (std::size_t i = 0; i + 1 < all.size(); ++i) {
        const bool is_alive = std::any_of(
            lives[at(v)].begin(), lives[at(v)].end(),
            [&](const Life& life) { return life.begin <= all[i].at && all[i + 1].at <= life.end; });
        if (all[i].is_held && !is_alive) plan->set_held(v, i, i + 1, false);
      }
    }
    if (!plan->settle(holds_repeated)) return nullptr;
  }
  plan->forget();
  return plan;
}

// ---- fitting into a budget --------------------------------------------------------------------

// Held over p; or used by what runs again at p and held on, which may be what sets the level.
std::optional<Search::Gap> Search::gap_over(const Retention& plan, ValueId v, Position p) const {
  const std::vector<Presence>& all = plan.presences(v);
  if (graph_.value(v).creator >= p || all.back().at <= p) return std::nullopt;
  const std::size_t next = presence_from(all, p);
  const std::size_t from = all[next].at == p ? next : next - 1;
  if (!all[from].is_held || all[from].is_fetched) return std::nullopt;
  return Gap{v, from};
}

// What may be let go at p, looked up among all values.
void Search::find_candidates(const Retention& plan, Position p) {
  candidates_.clear();
  scanned_ += static_cast<std::int64_t>(values_.size());
  for (const ValueId v : values_) {
    if (graph_.value(v).creator >= p) break;
    if (graph_.value(v).bytes == 0) continue;
    const std::optional<Gap> gap = gap_over(plan, v, p);
    if (!gap) continue;
    const double noise = noise_ > 0 ? noise_ * static_cast<double>(below(1024)) / 1024 : 0;
    candidates_.push_back({.score = 0, .gap = *gap, .factor = 1 + noise});
  }
}

// The cheapest per byte that helps come first. A scan of all values serves for many steps of a fit,
// so that its cost does not grow with the square of the step's length.
void Search::order_candidates(const Retention& plan, Position p, Bytes overflow) {
  const auto is_cheaper = [](const Candidate& a, const Candidate& b) {
    return std::pair(a.score, a.gap.value) < std::pair(b.score, b.gap.value);
  };
  const auto price = [&] {
    for (Candidate& candidate : candidates_) {
      const ValueId v = candidate.gap.value;
      const Bytes bytes = std::min(graph_.value(v).bytes, overflow);
      candidate.score = candidate.factor * estimate_[at(v)] / static_cast<double>(bytes);
    }
  };
  std::erase_if(candidates_, [&](Candidate& candidate) {
    const std::optional<Gap> gap = gap_over(plan, candidate.gap.value, p);
    if (gap) candidate.gap = *gap;
    return !gap;
  });
  if (candidates_.size() < looked_at_candidates) {
    find_candidates(plan, p);
    price();
    const std::size_t kept =
        std::min(candidates_.size(), 2 * looked_at_candidates + values_.size() / 64);
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(kept),
                      candidates_.end(), is_cheaper);
    candidates_.resize(kept);
  } else {
    price();
    std::partial_sort(candidates_.begin(),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(looked_at_candidates),
                      candidates_.end(), is_cheaper);
  }
}

// One value less at the highest level.
bool Search::lower(Retention& plan, Bytes budget) {
  const Position p = plan.peak_position();
  const Bytes peak = plan.peak();
  const Bytes overflow = peak - budget;
  const std::int64_t before = plan.repeated_nanoseconds();
  order_candidates(plan, p, overflow);
  Candidate best{.score = std::numeric_limits<double>::infinity(), .gap = {}};
  std::size_t tried = 0;
  const std::size_t count = std::min(candidates_.size(), looked_at_candidates);
  for (std::size_t c = 0; c < count; ++c) {
    const Candidate& candidate = candidates_[c];
    if (tried >= tried_candidates && best.gap.value >= 0) break;
    if (best.score <= candidate.score) break;
    ++tried;
    const ValueId v = candidate.gap.value;
    const Retention::Mark mark = plan.mark();
    plan.set_held(v, candidate.gap.from, candidate.gap.from + 1, false);
    if (plan.settle()) {
      const auto cost = static_cast<double>(plan.repeated_nanoseconds() - before);
      estimate_[at(v)] = cost;
      const Bytes saved = std::min(peak - plan.level(p), overflow);
      const bool helps = saved > 0 && plan.peak() <= peak;
      const double score = cost / static_cast<double>(std::max<Bytes>(saved, 1));
      if (helps && score < best.score) best = {.score = score, .gap = candidate.gap};
      if (!helps) estimate_[at(v)] = cost * 2 + 1;
    }
    plan.undo(mark);
  }
  if (best.gap.value < 0) return false;
  plan.set_held(best.gap.value, best.gap.from, best.gap.from + 1, false);
  dropped_.push_back(best.gap);
  return plan.settle();
}

bool Search::fit(Retention& plan, Bytes budget, std::int64_t work) {
  dropped_.clear();
  candidates_.clear();
  const std::int64_t end = plan.work() + work;
  while (plan.peak() > budget) {
    if (plan.work() > end || is_stopped() || !lower(plan, budget)) return false;
  }
  return true;
}

// ---- using what is left -----------------------------------------------------------------------

bool Search::hold(Retention& plan, Gap gap) {
  plan.set_held(gap.value, gap.from, gap.from + 1, true);
  return plan.settle();
}

// Holds the value if that fits and saves time.
bool Search::try_hold(Retention& plan, Bytes budget, Gap gap) {
  // Earlier holds may have moved the presences.
  const std::vector<Presence>& all = plan.presences(gap.value);
  if (!is_rebuilt(all, gap.from)) return false;
  const std::int64_t before = plan.repeated_nanoseconds();
  const Retention::Mark mark = plan.mark();
  const bool is_better =
      hold(plan, gap) && plan.peak() <= budget && plan.repeated_nanoseconds() < before;
  if (!is_better) plan.undo(mark);
  return is_better;
}

// What holding the value there saves; absent: it does not fit or saves nothing.
std::optional<Search::Candidate> Search::saving(Retention& plan, Bytes budget, Gap gap) {
  if (!is_rebuilt(plan.presences(gap.value), gap.from)) return std::nullopt;
  // Where there is no room on the way, evaluating what would follow is not worth its time.
  const std::vector<Presence>& all = plan.presences(gap.value);
  const Position first = all[gap.from].at + 1;
  const Position last = all[gap.from + 1].at - 1;
  const Bytes room = budget - graph_.value(gap.value).bytes;
  if (first <= last && plan.highest_level(first, last) > room) return std::nullopt;
  const std::int64_t before = plan.repeated_nanoseconds();
  const Retention::Mark mark = plan.mark();
  const bool fits = hold(plan, gap) && plan.peak() <= budget;
  const auto saved = static_cast<double>(before - plan.repeated_nanoseconds());
  plan.undo(mark);
  if (!fits || saved <= 0) return std::nullopt;
  estimate_[at(gap.value)] = saved;
  const auto bytes = static_cast<double>(std::max<Bytes>(graph_.value(gap.value).bytes, 1));
  return Candidate{.score = saved / bytes, .gap = gap};
}

// The most saving per byte first, looked at again before it is held, since earlier holds change it.
bool Search::fill_once(Retention& plan, Bytes budget) {
  const auto is_worse = [](const Candidate& a, const Candidate& b) {
    return std::tuple(a.score, -a.gap.value, b.gap.from) <
           std::tuple(b.score, -b.gap.value, a.gap.from);
  };
  std::vector<Candidate> heap;
  for (const ValueId v : values_) {
    for (std::size_t i = 0; i + 1 < plan.presences(v).size(); ++i) {
      const std::optional<Candidate> candidate = saving(plan, budget, {v, i});
      if (candidate) heap.push_back(*candidate);
    }
    if (is_stopped()) return false;
  }
  std::make_heap(heap.begin(), heap.end(), is_worse);
  bool is_changed = false;
  while (!heap.empty() && !is_stopped()) {
    std::pop_heap(heap.begin(), heap.end(), is_worse);
    const std::optional<Candidate> again = saving(plan, budget, heap.back().gap);
    heap.pop_back();
    if (!again) continue;
    if (heap.empty() || again->score >= heap.front().score) {
      is_changed = try_hold(plan, budget, again->gap) || is_changed;
    } else {
      heap.push_back(*again);
      std::push_heap(heap.begin(), heap.end(), is_worse);
    }
  }
  plan.forget();
  return is_changed;
}

void Search::fill(Retention& plan, Bytes budget) {
  constexpr int passes = 2;
  for (int pass = 0; pass < passes && fill_once(plan, budget); ++pass) {
  }
}

// ---- large neighbourhoods ----------------------------------------------------------------------

// From a value by chance on, the first that is rebuilt.
Search::Gap Search::some_rebuilt(const Retention& plan) {
  constexpr std::size_t furthest = 4096;
  const std::size_t first = below(values_.size());
  const std::size_t tries = std::min(values_.size(), furthest);
  for (std::size_t k = 0; k < tries; ++k) {
    ++scanned_;
    const Gap gap = rebuilt_near(plan, values_[(first + k) % values_.size()]);
    if (gap.value >= 0) return gap;
  }
  return {};
}

Search::Gap Search::rebuilt_near(const Retention& plan, ValueId v) {
  const std::vector<Presence>& all = plan.presences(v);
  if (all.size() < 2) return {};
  const std::size_t start = below(all.size());
  for (std::size_t k = 0; k < all.size(); ++k) {
    const std::size_t i = (start + k) % all.size();
    if (is_rebuilt(all, i)) return {v, i};
  }
  return {};
}

// Holds a few values that are rebuilt: neighbours of one, or anywhere.
bool Search::hold_some(Retention& plan) {
  const Gap first = some_rebuilt(plan);
  if (first.value < 0) return false;
  const std::size_t count = 1 + below(5);
  const bool is_local = below(2) == 0;
  const std::size_t width = 2 + below(30);
  const std::size_t centre = index_of_[at(first.value)];
  if (!hold(plan, first)) return false;
  for (std::size_t k = 1; k < count; ++k) {
    std::size_t next = below(values_.size());
    if (is_local) next = std::min(centre + below(width), values_.size() - 1);
    const Gap gap = rebuilt_near(plan, values_[next]);
    if (gap.value >= 0 && !hold(plan, gap)) return false;
  }
  return true;
}

// What the last fit stopped holding may fit again, after what it stopped later.
void Search::refill(Retention& plan, Bytes budget) {
  for (std::size_t k = 0; k < dropped_.size() + 4; ++k) {
    Gap gap = k < dropped_.size() ? rebuilt_near(plan, dropped_[k].value) : some_rebuilt(plan);
    if (gap.value < 0) continue;
    try_hold(plan, budget, gap);
  }
}

bool Search::try_neighbour(Retention& plan, Bytes budget) {
  noise_ = below(4) == 0 ? 0 : 0.5;
  constexpr std::int64_t fit_work_per_operator = 4;
  if (!hold_some(plan) || !fit(plan, budget, fit_work_per_operator * graph_.end())) return false;
  refill(plan, budget);
  return true;
}

// A few neighbours in a row, each at most a little slower than the first plan, until one is faster.
void Search::explore(Retention& plan, Bytes budget) {
  constexpr int steps = 8;
  constexpr std::int64_t slack_divisor = 100;
  constexpr std::int64_t least_work_of_a_step = 32;
  const std::int64_t first = plan.repeated_nanoseconds();
  const Retention::Mark start = plan.mark();
  for (int step = 0; step < steps && !is_stopped(); ++step) {
    const Retention::Mark mark = plan.mark();
    scanned_ += least_work_of_a_step;
    const bool fits = try_neighbour(plan, budget);
    if (fits && plan.repeated_nanoseconds() < first) return plan.forget();
    const bool is_close = fits && plan.repeated_nanoseconds() <= first + first / slack_divisor;
    if (!is_close) plan.undo(mark);
  }
  if (plan.repeated_nanoseconds() > first) plan.undo(start);
  plan.forget();
}

void Search::improve(Retention& plan, Bytes budget, std::int64_t work) {
  // Where nothing was found for so long a part of the work, the rest would be in vain.
  constexpr std::int64_t patience_divisor = 4;
  plan.forget();
  const auto done = [&] { return plan.work() + scanned_ / 16; };
  const std::int64_t begin = done();
  std::int64_t improved = begin;
  while (done() < begin + work && done() < improved + work / patience_divisor) {
    const std::int64_t before = plan.repeated_nanoseconds();
    if (before == 0 || is_stopped()) break;
    explore(plan, budget);
    if (plan.repeated_nanoseconds() < before) improved = done();
  }
  noise_ = 0;
}

}  // namespace tidemark::tide
