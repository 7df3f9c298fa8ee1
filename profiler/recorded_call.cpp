#include "recorded_call.hpp"

#include <algorithm>

#include "live_count.hpp"

namespace tidemark {

namespace {

struct Temporary {
  std::int32_t number = 0;
  WorkerId worker = no_worker;
};

}  // namespace

CallMemory call_memory(const std::vector<CallEvent>& events,
                       const std::unordered_map<const void*, StorageId>& created,
                       Bytes created_bytes) {
  // The last block at an address that was not freed again is the created storage's.
  std::unordered_map<const void*, std::size_t> survivor;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (events[i].is_free) {
      survivor.erase(events[i].data);
    } else {
      survivor[events[i].data] = i;
    }
  }
  CallMemory memory;
  std::unordered_map<const void*, Temporary> temporaries;
  std::int32_t next_temporary = 0;
  LiveCount live;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const CallEvent& event = events[i];
    AllocationEvent allocation{
        .is_free = event.is_free, .bytes = event.bytes, .storage = no_storage, .temporary = -1};
    const auto made = created.find(event.data);
    const auto last = survivor.find(event.data);
    if (event.is_free) {
      const auto temporary = temporaries.find(event.data);
      if (temporary == temporaries.end()) continue;
      allocation.temporary = temporary->second.number;
      live.free(event.bytes, temporary->second.worker);
      temporaries.erase(temporary);
    } else {
      live.allocate(event.bytes, event.worker);
      if (made != created.end() && last != survivor.end() && last->second == i) {
        allocation.storage = made->second;
      } else {
        allocation.temporary = next_temporary++;
        temporaries[event.data] = {allocation.temporary, event.worker};
      }
    }
    memory.allocations.push_back(allocation);
  }
  memory.workspace_bytes = std::max<Bytes>(0, live.peak() - created_bytes);
  return memory;
}

}  // namespace tidemark
