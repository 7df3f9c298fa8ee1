// One operator call while it is open, and what its allocations come to. Private to the recorder.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "generator_state.hpp"
#include "memory_meter.hpp"
#include "operator_rules.hpp"
#include "tidemark/program.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// An allocation or release while the call was open.
struct CallEvent {
  bool is_free = false;
  const void* data = nullptr;
  Bytes bytes = 0;
  WorkerId worker = no_worker;  // of an allocation
};

struct OpenCall final : at::ObserverContext {
  Op op;
  const c10::FunctionSchema* schema = nullptr;
  OpenCall* caller = nullptr;
  const Node* node = nullptr;  // of the program, where the call is the node's own
  bool has_composite_form = false;
  // Then its children are recorded in its place.
  bool calls_above_autograd = false;
  bool is_host_sync = false;
  std::string failure;  // why it cannot be replayed; empty: it can
  std::vector<CallEvent> events;
  std::vector<StorageId> freed;  // storages of others that died while it was open
  // The number that the next autograd node gets.
  std::uint64_t first_node = 0;
  std::optional<std::uint64_t> backward_of;  // the autograd node that runs it
  std::optional<GeneratorState> generator;   // as the call found it
};

struct CallMemory {
  std::vector<AllocationEvent> allocations;
  Bytes workspace_bytes = 0;
};

// `created`: what the call made and left, by address. Releases of older blocks count for nothing:
// when the call runs again, its arguments live until its end.
[[nodiscard]] CallMemory call_memory(const std::vector<CallEvent>& events,
                                     const std::unordered_map<const void*, StorageId>& created,
                                     Bytes created_bytes);

}  // namespace tidemark
