#include "lifetimes.hpp"

#include <algorithm>
#include <cstddef>

namespace tidemark {

Lifetimes::Lifetimes(const StepTrace& trace, const StepAnalysis& analysis,
                     const CheckpointStorage& storage, Method method, const BuildOptions& options)
    : analysis_(analysis),
      storage_(storage),
      method_(method),
      is_held_output_(trace.storages.size(), 0),
      is_input_(trace.storages.size(), 0),
      is_kept_(trace.ops.size(), 0) {
  for (const SegmentFacts& facts : analysis_.segments()) {
    for (const StorageId id : facts.inputs) is_input_[index(id)] = 1;
  }
  if (options.hold_outputs) {
    for (const StorageId id : trace.outputs) is_held_output_[index(id)] = 1;
  }
  for (const OpId id : options.kept) is_kept_[index(id)] = 1;
}

// Reentrant: the checkpoint's own node runs first, before any operator of the segment's backward.
// Non-reentrant: the first saved value that is unpacked.
OpPosition Lifetimes::trigger(const SegmentFacts& facts) const {
  return is_reentrant() ? facts.first_backward : facts.first_saved_read;
}

OpPosition Lifetimes::hold_end(const SegmentFacts& facts) const {
  return is_reentrant() ? facts.last_backward : facts.last_saved_read;
}

OpPosition Lifetimes::recomputed_last(const SegmentFacts& facts) const {
  return is_reentrant() ? static_cast<OpPosition>(facts.segment.last) : facts.last_needed;
}

// Results of kept operators stay until the recomputation comes by, which decides about them.
bool Lifetimes::is_handed_over(StorageId id) const {
  const std::int32_t home = analysis_.home(id);
  return home != no_segment && is_kept(static_cast<std::size_t>(analysis_.creator(id))) &&
         trigger(analysis_.segments()[static_cast<std::size_t>(home)]) != no_op;
}

OpPosition Lifetimes::first_death(StorageId id) const {
  if (is_handed_over(id) || outlives_step(id)) return never;
  if (analysis_.is_made_in_forward(id)) return forward_death(id);
  // A gradient that comes into a segment is held by the reentrant node until it returns.
  OpPosition death = analysis_.recorded_death(id);
  if (!is_reentrant()) return death;
  const std::int32_t made_by =
      analysis_.segment_of(static_cast<std::size_t>(analysis_.creator(id)));
  for (const OpPosition use : analysis_.uses(id)) {
    const std::int32_t reader = analysis_.segment_of(static_cast<std::size_t>(use));
    if (reader == no_segment || reader == made_by) continue;
    death = std::max(death, analysis_.segments()[static_cast<std::size_t>(reader)].last_backward);
  }
  return death;
}

// Outside segments: as recorded, or longer as somebody's
// checkpoint. Inside: nothing is saved, so it dies at its last use there, or, if others use it, at
// theirs.
OpPosition Lifetimes::forward_death(StorageId id) const {
  const std::int32_t mover = storage_.moved_by(id);
  if (mover != no_segment) {
    const OpPosition held = storage_.held_by_others_until(id);
    if (held == no_op && storage_.releases_originals()) return never;
    const Segment& segment = analysis_.segments()[static_cast<std::size_t>(mover)].segment;
    return std::max(held, static_cast<OpPosition>(segment.last));
  }
  const std::int32_t home = analysis_.home(id);
  const OpPosition recorded = analysis_.recorded_death(id);
  OpPosition death = recorded;
  if (home != no_segment) {
    const Segment& segment = analysis_.segments()[static_cast<std::size_t>(home)].segment;
    const auto last = static_cast<OpPosition>(segment.last);
    const bool was_held_inside = analysis_.segment_of(static_cast<std::size_t>(recorded)) == home;
    if (!analysis_.is_output(id)) {
      if (recorded <= last) return recorded;
      return std::max(analysis_.creator(id), analysis_.last_use_in(id, no_op, last));
    }
    if (was_held_inside) {
      death = analysis_.creator(id);
      for (const OpPosition use : analysis_.uses(id)) {
        if (use <= last || analysis_.segment_of(static_cast<std::size_t>(use)) != home) death = use;
      }
    }
  }
  if (!is_input(id)) return death;
  for (const SegmentFacts& facts : analysis_.segments()) {
    const bool is_its_input =
        std::find(facts.inputs.begin(), facts.inputs.end(), id) != facts.inputs.end();
    if (is_its_input && hold_end(facts) != no_op) death = std::max(death, hold_end(facts));
  }
  return death;
}

// Needed by backward: as recorded, but not for the sake of others, who
// hold the first one. Not needed: at its last use in the recomputation.
OpPosition Lifetimes::recomputed_death(StorageId id, const SegmentFacts& facts) const {
  if (is_reentrant() && analysis_.is_output(id)) return facts.last_backward;
  const auto first = static_cast<OpPosition>(facts.segment.first);
  if (!analysis_.is_needed_again(id)) {
    return std::max(analysis_.creator(id),
                    analysis_.last_use_in(id, first, recomputed_last(facts)));
  }
  OpPosition last_read = trigger(facts);
  for (const OpPosition use : analysis_.uses(id)) {
    const auto op = static_cast<std::size_t>(use);
    if (use > trigger(facts) && analysis_.segment_of(op) == analysis_.home(id)) {
      last_read = use;
    }
  }
  const OpPosition recorded = analysis_.recorded_death(id);
  const bool is_held_by_others =
      analysis_.is_output(id) &&
      (recorded == never ||
       analysis_.segment_of(static_cast<std::size_t>(recorded)) != analysis_.home(id));
  if (is_held_by_others) return last_read;
  // PyTorch's form forgets a value when it gives it to a node, which holds it until it returns.
  return std::max(last_read, is_reentrant() ? recorded : analysis_.node_return(recorded));
}

}  // namespace tidemark
