#include "step_analysis.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "module_path.hpp"

namespace tidemark {

namespace {

OpPosition position(OpId id) { return static_cast<OpPosition>(id); }

bool is_summed_by_engine(const Op& op) {
  return op.name == "aten::sum" && op.phase == Phase::backward && op.forward_ops.empty();
}

void note_types(const CallValue& value, std::vector<std::optional<ScalarType>>& types) {
  if (const auto* view = std::get_if<TensorView>(&value.value)) {
    if (view->storage != no_storage && !types[index(view->storage)]) {
      types[index(view->storage)] = view->dtype;
    }
  } else if (const auto* list = std::get_if<CallList>(&value.value)) {
    for (const CallValue& item : list->items) note_types(item, types);
  }
}

}  // namespace

bool multiplies_with_bias(const Op& op) {
  return op.name == "aten::addmm" || op.name == "aten::_addmm_activation";
}

std::vector<std::optional<ScalarType>> storage_types(const StepTrace& trace) {
  std::vector<std::optional<ScalarType>> types(trace.storages.size());
  for (const Op& op : trace.ops) {
    if (!op.call) continue;
    for (const CallValue& value : op.call->results) note_types(value, types);
    for (const CallValue& value : op.call->arguments) note_types(value, types);
  }
  return types;
}

StepAnalysis::StepAnalysis(const StepTrace& trace, const std::vector<Segment>& segments)
    : trace_(trace),
      segment_of_op_(trace.ops.size(), no_segment),
      creator_(trace.storages.size(), no_op),
      death_(trace.storages.size(), never),
      uses_(trace.storages.size()),
      is_output_(trace.storages.size(), 0),
      is_needed_again_(trace.storages.size(), 0),
      requires_grad_(trace.storages.size(), 0) {
  find_uses();
  assign_forward_segments(segments);
  assign_backward_segments();
  find_outputs();
  find_needs();
  find_gradient_flow();
}

bool StepAnalysis::is_made_in_forward(StorageId id) const {
  return !is_static(id) &&
         trace_.ops[static_cast<std::size_t>(creator(id))].phase == Phase::forward;
}

std::int32_t StepAnalysis::home(StorageId id) const {
  return is_made_in_forward(id) ? segment_of(static_cast<std::size_t>(creator(id))) : no_segment;
}

OpPosition StepAnalysis::last_use_in(StorageId id, OpPosition first, OpPosition last) const {
  const std::vector<OpPosition>& all = uses_[index(id)];
  const auto after = std::upper_bound(all.begin(), all.end(), last);
  if (after == all.begin() || *(after - 1) < first) return no_op;
  return *(after - 1);
}

OpPosition StepAnalysis::held_elsewhere_until(StorageId id, std::int32_t segment) const {
  const auto is_elsewhere = [&](OpPosition at) {
    const auto op = static_cast<std::size_t>(at);
    return trace_.ops[op].phase != Phase::forward && segment_of(op) != segment &&
           (segment_of(op) == no_segment || segment_of(op) != home(id));
  };
  OpPosition last = no_op;
  for (const OpPosition use : uses_[index(id)]) {
    if (is_elsewhere(use)) last = use;
  }
  const OpPosition recorded = death_[index(id)];
  if (last != no_op && recorded != never && is_elsewhere(recorded)) last = std::max(last, recorded);
  return last;
}

void StepAnalysis::find_uses() {
  for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
    const Op& op = trace_.ops[o];
    const auto at = static_cast<OpPosition>(o);
    for (const StorageId id : op.creates) creator_[index(id)] = at;
    const auto note = [&](StorageId id) {
      if (uses_[index(id)].empty() || uses_[index(id)].back() != at) uses_[index(id)].push_back(at);
    };
    std::for_each(op.reads.begin(), op.reads.end(), note);
    std::for_each(op.writes.begin(), op.writes.end(), note);
  }
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    const Storage& storage = trace_.storages[s];
    if (creator_[s] == no_op) continue;
    const OpPosition last_use = uses_[s].empty() ? creator_[s] : uses_[s].back();
    death_[s] = std::max(storage.freed_after ? position(*storage.freed_after) : last_use, last_use);
  }
  for (const StorageId id : trace_.keep) death_[index(id)] = never;
}

void StepAnalysis::assign_forward_segments(const std::vector<Segment>& segments) {
  for (std::size_t s = 0; s < segments.size(); ++s) {
    segments_.push_back(
        {.segment = segments[s], .inputs = segment_inputs(trace_, segments[s]), .outputs = {}});
    for (std::size_t o = index(segments[s].first); o <= index(segments[s].last); ++o) {
      segment_of_op_[o] = static_cast<std::int32_t>(s);
    }
  }
}

// Most of its forward operators decide.
std::int32_t StepAnalysis::owner_by_forward_ops(const Op& op) const {
  std::map<std::int32_t, int> votes;
  for (const OpId id : op.forward_ops) ++votes[segment_of_op_[index(id)]];
  const std::int32_t most =
      std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      })->first;
  return is_of_view_beside(op, most) ? no_segment : most;
}

// A view is no operator of the trace: a neighbour stands for it, which may be the end of a segment
// that the view lies outside of (the parts of what a block made). Its module is its own.
bool StepAnalysis::is_of_view_beside(const Op& op, std::int32_t segment) const {
  if (segment == no_segment || op.forward_ops.size() != 1) return false;
  const OpId neighbour = op.forward_ops.front();
  const Segment& inside = segments_[static_cast<std::size_t>(segment)].segment;
  const bool is_at_end = neighbour == inside.first || neighbour == inside.last;
  if (!is_at_end || op.module == trace_.ops[index(neighbour)].module) return false;
  return std::none_of(inside.blocks.begin(), inside.blocks.end(),
                      [&](const std::string& block) { return is_inside(op.module, block); });
}

// What only adds gradients up, by autograd's engine once a node has returned, belongs to that node:
// the operator before it, which the node or the engine ran. Where the node ran none, the trace says
// whose it is. What is added up may have come from the segment behind, unchanged.
std::int32_t StepAnalysis::owner_by_order(std::size_t o) const {
  if (o == 0 || trace_.ops[o - 1].phase != Phase::backward) return no_segment;
  return segment_of_op_[o - 1];
}

// For traces that do not say whose derivative an operator is: where its youngest gradient was made,
// in the branch that autograd just finished.
std::int32_t StepAnalysis::owner_by_gradients(const Op& op) const {
  OpPosition youngest = no_op;
  for (const StorageId id : op.reads) youngest = std::max(youngest, creator_[index(id)]);
  if (youngest == no_op) return no_segment;
  const auto made_by = static_cast<std::size_t>(youngest);
  return trace_.ops[made_by].phase == Phase::backward ? segment_of_op_[made_by] : no_segment;
}

// For the same traces: an operator belongs to a segment in which what it reads was made or read.
// Backward goes from the last segment to the first, so the current one is kept as long as it can
// be.
std::int32_t StepAnalysis::owner_by_saved_reads(const Op& op, std::int32_t current) const {
  std::int32_t best = no_segment;
  for (const StorageId id : op.reads) {
    if (!is_made_in_forward(id)) continue;
    for (const OpPosition use : uses_[index(id)]) {
      const Op& reader = trace_.ops[static_cast<std::size_t>(use)];
      if (reader.phase != Phase::forward) break;
      const std::int32_t segment = segment_of_op_[static_cast<std::size_t>(use)];
      if (segment == current) return current;
      if (segment < current) best = std::max(best, segment);
    }
    if (home(id) == current) return current;
    if (home(id) < current) best = std::max(best, home(id));
  }
  return best;
}

void StepAnalysis::assign_backward_segments() {
  const bool knows_forward_ops = std::any_of(trace_.ops.begin(), trace_.ops.end(),
                                             [](const Op& op) { return !op.forward_ops.empty(); });
  auto current = static_cast<std::int32_t>(segments_.size());
  for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
    const Op& op = trace_.ops[o];
    if (op.phase != Phase::backward) continue;
    std::int32_t owner = no_segment;
    if (!op.forward_ops.empty()) {
      owner = owner_by_forward_ops(op);
    } else if (knows_forward_ops || is_summed_by_engine(op)) {
      owner = owner_by_order(o);
    } else {
      owner = owner_by_saved_reads(op, current);
      if (owner == no_segment) owner = owner_by_gradients(op);
    }
    segment_of_op_[o] = owner;
    if (owner == no_segment) continue;
    current = owner;
    SegmentFacts& facts = segments_[static_cast<std::size_t>(owner)];
    if (facts.first_backward == no_op) facts.first_backward = static_cast<OpPosition>(o);
    facts.last_backward = static_cast<OpPosition>(o);
  }
}

void StepAnalysis::find_outputs() {
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    const auto id = make_id<StorageId>(s);
    const std::int32_t segment = home(id);
    if (segment == no_segment) continue;
    const bool is_used_outside =
        death_[s] == never || std::any_of(uses_[s].begin(), uses_[s].end(), [&](OpPosition use) {
          return segment_of_op_[static_cast<std::size_t>(use)] != segment;
        });
    if (!is_used_outside) continue;
    is_output_[s] = 1;
    segments_[static_cast<std::size_t>(segment)].outputs.push_back(id);
  }
}

// An autograd node unpacks all that it saved before its first operator: the operators before this
// one that are the derivative of the same forward operators run in the same node.
OpPosition StepAnalysis::node_begin(std::size_t o) const {
  const std::vector<OpId>& node = trace_.ops[o].forward_ops;
  if (node.empty()) return static_cast<OpPosition>(o);
  while (o > 0 && trace_.ops[o - 1].phase == Phase::backward &&
         trace_.ops[o - 1].forward_ops == node) {
    --o;
  }
  return static_cast<OpPosition>(o);
}

OpPosition StepAnalysis::node_return(OpPosition at) const {
  OpPosition last = at;
  while (last > 0 && is_summed_by_engine(trace_.ops[static_cast<std::size_t>(last)])) --last;
  const bool is_known = !trace_.ops[static_cast<std::size_t>(last)].forward_ops.empty();
  return is_known ? last : at;
}

void StepAnalysis::find_needs() {
  for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
    const Op& op = trace_.ops[o];
    const std::int32_t owner = segment_of_op_[o];
    if (op.phase != Phase::backward || owner == no_segment) continue;
    SegmentFacts& facts = segments_[static_cast<std::size_t>(owner)];
    for (const StorageId id : op.reads) {
      const Role role = trace_.storages[index(id)].role;
      const bool is_saved = is_made_in_forward(id) ||
                            (is_static(id) && role != Role::gradient && role != Role::constant);
      if (!is_saved) continue;
      if (facts.first_saved_read == no_op) facts.first_saved_read = node_begin(o);
      facts.last_saved_read = static_cast<OpPosition>(o);
      if (home(id) == owner) is_needed_again_[index(id)] = 1;
    }
  }
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    const auto id = make_id<StorageId>(s);
    const std::int32_t segment = home(id);
    if (segment == no_segment) continue;
    SegmentFacts& facts = segments_[static_cast<std::size_t>(segment)];
    const bool was_held = !is_output_[s] && death_[s] != never &&
                          trace_.ops[static_cast<std::size_t>(death_[s])].phase == Phase::backward;
    if (was_held) is_needed_again_[s] = 1;
    if (!is_needed_again_[s]) continue;
    OpPosition last_writer = creator_[s];
    for (const OpPosition use : uses_[s]) {
      if (use > position(facts.segment.last)) break;
      const auto& writes = trace_.ops[static_cast<std::size_t>(use)].writes;
      if (std::find(writes.begin(), writes.end(), id) != writes.end()) last_writer = use;
    }
    facts.last_needed = std::max(facts.last_needed, last_writer);
  }
}

void StepAnalysis::find_gradient_flow() {
  const std::vector<std::optional<ScalarType>> types = storage_types(trace_);
  for (const auto& [parameter, view] : trace_.gradients) requires_grad_[index(parameter)] = 1;
  for (const Op& op : trace_.ops) {
    if (op.phase != Phase::forward) continue;
    const bool flows = std::any_of(op.reads.begin(), op.reads.end(),
                                   [&](StorageId id) { return requires_grad_[index(id)] != 0; });
    if (!flows) continue;
    const auto mark = [&](StorageId id) {
      const std::optional<ScalarType> type = types[index(id)];
      if (!type || is_floating_point(*type)) requires_grad_[index(id)] = 1;
    };
    std::for_each(op.creates.begin(), op.creates.end(), mark);
    std::for_each(op.writes.begin(), op.writes.end(), mark);
  }
}

}  // namespace tidemark
