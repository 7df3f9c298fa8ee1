#include "retention.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace tidemark::tide {

namespace {

template <typename Vector, typename Index>
auto& item(Vector& vector, Index i) {
  return vector[static_cast<std::size_t>(i)];
}

}  // namespace

Retention::Retention(const StepGraph& graph, std::vector<Offload> offloads)
    : graph_(&graph),
      offloads_(std::move(offloads)),
      presences_(static_cast<std::size_t>(graph.value_count())),
      repeated_at_(static_cast<std::size_t>(graph.end()) + 1),
      present_at_(repeated_at_.size()),
      rise_(repeated_at_.size(), 0),
      levels_(repeated_at_.size()),
      value_stamp_(presences_.size(), 0),
      position_stamp_(repeated_at_.size(), 0),
      is_dirty_(repeated_at_.size(), 0),
      is_repeated_(repeated_at_.size(), 0),
      mark_(presences_.size(), 0),
      last_use_(presences_.size(), 0) {
  for (Position p = 0; p <= graph.end(); ++p) {
    for (const ValueId v : graph.at(p).operands) {
      presences_of(v).back().is_held = true;
      presences_of(v).push_back({.at = p, .is_used = true, .is_held = false});
      item(present_at_, p).push_back(v);
    }
    std::sort(item(present_at_, p).begin(), item(present_at_, p).end());
    for (const ValueId v : graph.at(p).creates) {
      presences_of(v).push_back({.at = p, .is_used = true, .is_held = false});
    }
  }
  for (ValueId v = 0; v < graph.value_count(); ++v) {
    if (graph.is_static(v)) continue;
    levels_.add(presences_of(v).front().at + 1, presences_of(v).back().at, graph.value(v).bytes);
  }
  for (const Offload& offload : offloads_) take_to_host(offload);
  for (Position p = 0; p <= graph.end(); ++p) measure(p);
  forget();
}

void Retention::take_to_host(const Offload& offload) {
  std::vector<Presence>& all = presences_of(offload.value);
  const auto next =
      std::lower_bound(all.begin(), all.end(), offload.back,
                       [](const Presence& entry, Position q) { return entry.at < q; });
  (next - 1)->is_held = false;
  (next - 1)->is_moved = true;
  if (next->at == offload.back) {
    next->is_fetched = true;
  } else {
    all.insert(next, {.at = offload.back, .is_used = false, .is_held = true, .is_fetched = true});
  }
  levels_.add(offload.freed, offload.fetched - 1, -graph_->value(offload.value).bytes);
}

std::ptrdiff_t Retention::held_into(ValueId v, Position p) const {
  const std::vector<Presence>& all = item(presences_, v);
  auto after = std::lower_bound(all.begin(), all.end(), p,
                                [](const Presence& entry, Position at) { return entry.at < at; });
  if (after == all.begin()) return -1;
  const bool is_fetched = after != all.end() && after->at == p && after->is_fetched;
  --after;
  return after->is_held || is_fetched ? after - all.begin() : -1;
}

// ---- changes and their undoing ----------------------------------------------------------------

Retention::Mark Retention::mark() {
  ++stamp_;
  return {.values = saved_values_.size(),
          .positions = saved_positions_.size(),
          .levels = saved_levels_.size(),
          .repeated = repeated_};
}

void Retention::forget() {
  ++stamp_;
  saved_values_.clear();
  saved_positions_.clear();
  saved_levels_.clear();
}

void Retention::undo(const Mark& mark) {
  for (const Position p : dirty_) item(is_dirty_, p) = 0;
  dirty_.clear();
  for (; saved_levels_.size() > mark.levels; saved_levels_.pop_back()) {
    const SavedLevel& saved = saved_levels_.back();
    levels_.add(saved.first, saved.last, -saved.bytes);
  }
  for (; saved_values_.size() > mark.values; saved_values_.pop_back()) {
    presences_of(saved_values_.back().value).swap(saved_values_.back().presences);
  }
  for (; saved_positions_.size() > mark.positions; saved_positions_.pop_back()) {
    SavedPosition& saved = saved_positions_.back();
    item(repeated_at_, saved.position).swap(saved.repeated);
    item(present_at_, saved.position).swap(saved.present);
    item(rise_, saved.position) = saved.rise;
  }
  repeated_ = mark.repeated;
  ++stamp_;
}

void Retention::save(ValueId v) {
  if (item(value_stamp_, v) == stamp_) return;
  item(value_stamp_, v) = stamp_;
  saved_values_.push_back({v, presences_of(v)});
}

void Retention::save_position(Position p) {
  if (item(position_stamp_, p) == stamp_) return;
  item(position_stamp_, p) = stamp_;
  saved_positions_.push_back({p, item(repeated_at_, p), item(present_at_, p), item(rise_, p)});
}

void Retention::add_level(Position first, Position last, Bytes bytes) {
  if (first > last || bytes == 0) return;
  levels_.add(first, last, bytes);
  saved_levels_.push_back({first, last, bytes});
}

void Retention::mark_dirty(Position p) {
  if (item(is_dirty_, p) != 0) return;
  item(is_dirty_, p) = 1;
  dirty_.push_back(p);
  std::push_heap(dirty_.begin(), dirty_.end(), std::greater<>());
}

void Retention::set_held(ValueId v, std::size_t from, std::size_t to, bool is_held) {
  const std::vector<Presence>& all = presences_of(v);
  for (std::size_t i = from; i < to; ++i) {
    if (all[i].is_held == is_held) continue;
    save(v);
    presences_of(v)[i].is_held = is_held;
    add_level(all[i].at + 1, all[i + 1].at,
              is_held ? graph_->value(v).bytes : -graph_->value(v).bytes);
    mark_dirty(all[i].at);
    mark_dirty(all[i + 1].at);
  }
}

// A change of what runs again at a position can only change what runs again at later ones; earlier
// ones are measured anew.
bool Retention::settle(bool holds_repeated) {
  holds_repeated_ = holds_repeated;
  while (!dirty_.empty()) {
    std::pop_heap(dirty_.begin(), dirty_.end(), std::greater<>());
    const Position p = dirty_.back();
    dirty_.pop_back();
    item(is_dirty_, p) = 0;
    if (!rebuild(p)) return false;
  }
  return true;
}

// ---- what runs again at a position ------------------------------------------------------------

bool Retention::repeat_for(ValueId v, Position p) {
  const Value& value = graph_->value(v);
  const auto repeat = [&](Position x) {
    if (item(is_repeated_, x) != 0) return true;
    if (graph_->at(x).again_until < p) return false;
    item(is_repeated_, x) = 1;
    repeated_now_.push_back(x);
    return true;
  };
  if (!repeat(value.creator)) return false;
  for (const Position writer : value.writers) {
    if (writer >= p) break;
    if (!repeat(writer)) return false;
  }
  return true;
}

// Fills repeated_now_ and present_now_ (what is used or further made at p).
bool Retention::find_repeated(Position p) {
  ++mark_stamp_;
  const auto use = [&](ValueId v) {
    if (item(mark_, v) == mark_stamp_) return true;
    item(mark_, v) = mark_stamp_;
    present_now_.emplace_back(v, true);
    return held_into(v, p) >= 0 || repeat_for(v, p);
  };
  for (const ValueId v : graph_->at(p).operands) {
    if (!use(v)) return false;
  }
  // use() adds to the list that this walks. NOLINTNEXTLINE(modernize-loop-convert)
  for (std::size_t next = 0; next < repeated_now_.size(); ++next) {
    for (const ValueId v : graph_->at(repeated_now_[next]).operands) {
      if (!use(v)) return false;
    }
  }
  std::sort(repeated_now_.begin(), repeated_now_.end());
  for (const Position x : repeated_now_) {
    for (const ValueId v : graph_->at(x).creates) {
      // In another version than the one at p, or there anyway: of no use to anybody.
      const bool is_offered =
          item(mark_, v) != mark_stamp_ && graph_->value(v).writers.empty() && held_into(v, p) < 0;
      if (is_offered) present_now_.emplace_back(v, false);
    }
  }
  std::sort(present_now_.begin(), present_now_.end());
  return true;
}

bool Retention::rebuild(Position p) {
  repeated_now_.clear();
  present_now_.clear();
  const bool is_possible = find_repeated(p);
  work_ += 1 + static_cast<std::int64_t>(repeated_now_.size());
  for (const Position x : repeated_now_) item(is_repeated_, x) = 0;
  if (!is_possible) return false;
  save_position(p);
  for (const Position x : item(repeated_at_, p)) repeated_ -= graph_->at(x).nanoseconds;
  for (const Position x : repeated_now_) repeated_ += graph_->at(x).nanoseconds;
  item(repeated_at_, p).assign(repeated_now_.begin(), repeated_now_.end());
  update_presences(p);
  measure(p);
  return true;
}

void Retention::update_presences(Position p) {
  std::vector<ValueId>& before = item(present_at_, p);
  std::size_t b = 0;
  for (const auto& [v, is_used] : present_now_) {
    while (b < before.size() && before[b] < v) remove_presence(before[b++], p);
    if (b < before.size() && before[b] == v) ++b;
    insert_presence(v, p, is_used);
  }
  while (b < before.size()) remove_presence(before[b++], p);
  before.clear();
  for (const auto& [v, is_used] : present_now_) before.push_back(v);
}

void Retention::insert_presence(ValueId v, Position p, bool is_used) {
  std::vector<Presence>& all = presences_of(v);
  const auto at = std::lower_bound(all.begin(), all.end(), p,
                                   [](const Presence& entry, Position q) { return entry.at < q; });
  if (at != all.end() && at->at == p) {
    if (at->is_used == is_used) return;
    save(v);
    at->is_used = is_used;
    return;
  }
  save(v);
  bool is_held = (at - 1)->is_held;
  if (!is_held && holds_repeated_ && at != all.end() && !at->is_fetched) {
    is_held = true;
    add_level(p + 1, at->at, graph_->value(v).bytes);
    mark_dirty(at->at);
  }
  all.insert(at, {.at = p, .is_used = is_used, .is_held = is_held});
}

// Held up to p for p's sake alone, or rebuilt at p and held from there: both end.
void Retention::remove_presence(ValueId v, Position p) {
  std::vector<Presence>& all = presences_of(v);
  const auto at = std::lower_bound(all.begin(), all.end(), p,
                                   [](const Presence& entry, Position q) { return entry.at < q; });
  save(v);
  if (at->is_fetched) {
    at->is_used = false;
    return;
  }
  const auto before = at - 1;
  const Bytes bytes = graph_->value(v).bytes;
  if (before->is_held && !at->is_held) {
    before->is_held = false;
    add_level(before->at + 1, p, -bytes);
    mark_dirty(before->at);
  } else if (!before->is_held && at->is_held) {
    const Position next = (at + 1)->at;
    add_level(p + 1, next, -bytes);
    mark_dirty(next);
  }
  all.erase(at);
}

// ---- levels ----------------------------------------------------------------------------------

// The highest level at p above what is held into it: while operators run again, and while its own
// operator runs. A value dies at its last use unless it is held further.
void Retention::measure(Position p) {
  const std::vector<Position>& repeated = item(repeated_at_, p);
  const auto steps = static_cast<std::int32_t>(repeated.size());
  const auto operation = [&](std::int32_t step) -> const Operation& {
    return graph_->at(step < steps ? repeated[static_cast<std::size_t>(step)] : p);
  };
  for (std::int32_t step = 0; step <= steps; ++step) {
    for (const ValueId v : operation(step).operands) item(last_use_, v) = step;
  }
  const auto is_held_on = [&](ValueId v) {
    const std::vector<Presence>& all = presences_of(v);
    const auto at = std::lower_bound(
        all.begin(), all.end(), p, [](const Presence& entry, Position q) { return entry.at < q; });
    return at != all.end() && at->at == p && at->is_held;
  };
  Bytes level = 0;
  Bytes rise = 0;
  for (std::int32_t step = 0; step <= steps; ++step) {
    const Operation& running = operation(step);
    Bytes made = 0;
    Bytes lost = 0;
    for (const ValueId v : running.creates) {
      const Bytes bytes = graph_->value(v).bytes;
      made += bytes;
      // A second copy of what is there anyway is dropped at once; so is what nobody wants.
      const bool is_wanted =
          step == steps ? is_held_on(v)
                        : held_into(v, p) < 0 && (item(mark_, v) == mark_stamp_ || is_held_on(v));
      if (!is_wanted) lost += bytes;
    }
    rise = std::max(rise, level + made + running.workspace);
    for (const ValueId v : running.operands) {
      if (item(last_use_, v) == step && !is_held_on(v)) lost += graph_->value(v).bytes;
    }
    level += made - lost;
  }
  save_position(p);
  add_level(p, p, rise - item(rise_, p));
  item(rise_, p) = rise;
}

}  // namespace tidemark::tide
