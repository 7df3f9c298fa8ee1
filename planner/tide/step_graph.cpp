#include "step_graph.hpp"

#include <algorithm>

namespace tidemark::tide {

namespace {

void add_once(std::vector<ValueId>& values, ValueId value) {
  if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
}

}  // namespace

StepGraph::StepGraph(const StepTrace& trace)
    : trace_(trace),
      values_(trace.storages.size()),
      operations_(trace.ops.size() + 1),
      previous_ordered_(trace.ops.size() + 1, -1) {
  const std::vector<bool> is_static = static_storages(trace);
  std::vector<std::vector<Position>> static_writers(trace.storages.size());
  for (std::size_t s = 0; s < trace.storages.size(); ++s) {
    // What lies on the host counts nothing.
    if (is_on_device(trace, make_id<StorageId>(s))) values_[s].bytes = trace.storages[s].bytes;
    if (is_static[s]) static_bytes_ += values_[s].bytes;
  }
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    const Op& op = trace.ops[o];
    const auto position = static_cast<Position>(o);
    Operation& operation = operations_[o];
    operation.nanoseconds = op.duration.count();
    operation.workspace = op.workspace_bytes;
    total_nanoseconds_ += op.duration.count();
    for (const StorageId id : op.reads) {
      if (!is_static[index(id)]) add_once(operation.operands, static_cast<ValueId>(id));
    }
    for (const StorageId id : op.writes) {
      if (is_static[index(id)]) {
        if (!op.flags.statistics) static_writers[index(id)].push_back(position);
        continue;
      }
      add_once(operation.operands, static_cast<ValueId>(id));
      add_once(operation.overwrites, static_cast<ValueId>(id));
      values_[index(id)].writers.push_back(position);
    }
    for (const StorageId id : op.creates) {
      operation.creates.push_back(static_cast<ValueId>(id));
      values_[index(id)].creator = position;
    }
  }
  for (const StorageId id : trace.keep) {
    if (!is_static[index(id)]) add_once(operations_.back().operands, static_cast<ValueId>(id));
  }
  Position ordered = -1;
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    const Op& op = trace.ops[o];
    const bool writes_state = std::any_of(op.writes.begin(), op.writes.end(),
                                          [&](StorageId id) { return is_static[index(id)]; });
    if (!op.flags.random && !writes_state) continue;
    previous_ordered_[o] = ordered;
    ordered = static_cast<Position>(o);
  }
  find_repeatable(static_writers);
}

// An operator that writes state that feeds values may not run again, nor one that changes two
// values at once: rebuilding one would spoil the other.
void StepGraph::find_repeatable(const std::vector<std::vector<Position>>& static_writers) {
  for (std::size_t o = 0; o + 1 < operations_.size(); ++o) {
    const Op& op = trace_.ops[o];
    Operation& operation = operations_[o];
    const auto position = static_cast<Position>(o);
    const bool writes_state = std::any_of(op.writes.begin(), op.writes.end(), [&](StorageId id) {
      return is_static(static_cast<ValueId>(id)) && !op.flags.statistics;
    });
    if (op.flags.not_recomputable || op.flags.host_sync || writes_state) continue;
    const auto next_writer = [&](const std::vector<Position>& writers) {
      const auto next = std::upper_bound(writers.begin(), writers.end(), position);
      return next == writers.end() ? end() : *next;
    };
    Position until = end();
    for (const StorageId id : op.reads) {
      if (is_static(static_cast<ValueId>(id))) {
        until = std::min(until, next_writer(static_writers[index(id)]));
      }
    }
    operation.again_in_any_schedule_until = until;
    if (operation.overwrites.size() > 1) continue;
    if (!operation.overwrites.empty() && !operation.creates.empty()) continue;
    for (const ValueId v : operation.operands) {
      const bool is_overwritten =
          std::find(operation.overwrites.begin(), operation.overwrites.end(), v) !=
          operation.overwrites.end();
      if (!is_overwritten) until = std::min(until, next_writer(value(v).writers));
    }
    operation.again_until = until;
  }
}

}  // namespace tidemark::tide
