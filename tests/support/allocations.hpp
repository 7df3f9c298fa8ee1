// Makes a trace a GPU's: each operator says what it allocates.
#pragma once

#include "tidemark/trace.hpp"

namespace tidemark::test {

inline AllocationEvent allocation_for(StorageId id, Bytes bytes) {
  return {.is_free = false, .bytes = bytes, .storage = id, .temporary = -1};
}

inline AllocationEvent scratch_event(bool is_free, Bytes bytes) {
  return {.is_free = is_free, .bytes = bytes, .storage = no_storage, .temporary = 0};
}

// Each operator allocates its scratch, then what it creates, and frees the scratch.
inline void add_allocations(StepTrace& trace) {
  trace.device.kind = DeviceKind::phantom;
  for (Op& op : trace.ops) {
    op.allocations.emplace();
    const bool has_scratch = op.workspace_bytes > 0;
    if (has_scratch) op.allocations->push_back(scratch_event(false, op.workspace_bytes));
    for (const StorageId id : op.creates) {
      op.allocations->push_back(allocation_for(id, trace.storages[index(id)].bytes));
    }
    if (has_scratch) op.allocations->push_back(scratch_event(true, op.workspace_bytes));
  }
}

}  // namespace tidemark::test
