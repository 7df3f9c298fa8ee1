// Follows PyTorch's caching allocator on the phantom GPU: the peaks of a process and where in the
// step they were. Also lets freed blocks forget their bytes, so that what one tensor was copied
// does not resurface in another.
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/cuda/memory_snapshot.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "allocation_stacks.hpp"
#include "machine_interface.hpp"
#include "observed_place.hpp"
#include "process_record.hpp"
#include "unanswered.hpp"

namespace tidemark::phantom {

namespace {

using TraceEntry = c10::CachingDeviceAllocator::TraceEntry;

// What this thread is doing, kept by the marks that torch leaves in every program.
struct Doing {
  std::vector<const char*> operations;  // operators and autograd nodes, the innermost one last
  int optimizer_depth = 0;

  [[nodiscard]] const char* operation() const {
    return operations.empty() ? nullptr : operations.back();
  }
};

thread_local Doing doing;

struct OperationContext : at::ObserverContext {
  bool is_mark = false;  // of the user's, not an operation
  bool is_optimizer = false;
};

bool is_optimizer_mark(const char* name) {
  return std::string_view(name).starts_with("Optimizer.step#");
}

std::unique_ptr<at::ObserverContext> begin_operation(const at::RecordFunction& function) {
  auto context = std::make_unique<OperationContext>();
  context->is_mark = function.scope() == at::RecordScope::USER_SCOPE;
  if (context->is_mark) {
    context->is_optimizer = is_optimizer_mark(function.name());
    if (context->is_optimizer) ++doing.optimizer_depth;
  } else {
    doing.operations.push_back(function.name());
  }
  return context;
}

void end_operation(const at::RecordFunction&, at::ObserverContext* context) {
  const auto* begun = static_cast<OperationContext*>(context);
  if (begun->is_optimizer) --doing.optimizer_depth;
  if (!begun->is_mark && !doing.operations.empty()) doing.operations.pop_back();
}

}  // namespace

const std::vector<const char*>& running_operations() { return doing.operations; }

Phase current_phase() {
  if (doing.optimizer_depth > 0) return Phase::optimizer;
  if (torch::autograd::get_current_graph_task_id() != -1) {
    return at::GradMode::is_enabled() ? Phase::recomputation : Phase::backward;
  }
  return doing.operations.empty() ? Phase::unknown : Phase::forward;
}

namespace {

template <std::size_t room>
void set_text(std::array<char, room>& text, const char* value) {
  std::snprintf(text.data(), room, "%s", value == nullptr ? "" : value);
}

DeviceRecord& device_record(c10::DeviceIndex device) {
  return tidemark_phantom_record()->devices[static_cast<std::uint8_t>(device)];
}

// The last block handed out: what it did to the account shows at the event after it.
struct LastAllocation {
  Phase phase = Phase::unknown;
  std::array<char, 120> operation{};
};

LastAllocation& last_allocation(c10::DeviceIndex device) {
  static std::array<LastAllocation, most_devices> all;
  return all[static_cast<std::uint8_t>(device)];
}

// An event tells the bytes asked for; the account knows the blocks. A block may come and go between
// two events, so the account's own peak counts too; a program that resets it resets it to what is
// allocated at that moment.
void read_account(DeviceRecord& device, c10::DeviceIndex index) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(index);
  device.allocated = stats.allocated_bytes[0].current;
  device.reserved = stats.reserved_bytes[0].current;
  device.reserved_peak = std::max(device.reserved_peak, stats.reserved_bytes[0].peak);
  if (stats.allocated_bytes[0].peak <= device.allocated_peak) return;
  device.allocated_peak = stats.allocated_bytes[0].peak;
  device.peak_phase = last_allocation(index).phase;
  device.peak_operator = last_allocation(index).operation;
}

// The account shows a block only at the next event, which may never come: what it holds at least.
void note_at_least(DeviceRecord& device, const LastAllocation& last, std::int64_t size) {
  constexpr std::int64_t smallest_block = 512;
  const std::int64_t block = (size + smallest_block - 1) / smallest_block * smallest_block;
  if (device.allocated + block <= device.allocated_peak) return;
  device.allocated_peak = device.allocated + block;
  device.peak_phase = last.phase;
  device.peak_operator = last.operation;
}

bool is_running(const char* operation) {
  return std::any_of(doing.operations.begin(), doing.operations.end(),
                     [&](const char* name) { return std::strcmp(name, operation) == 0; });
}

// Nothing is wrong in a step that trains: that all elements are in range, equal or finite holds;
// that any is not does not, as zeros say. (Checks of distributions, masks that mask nothing.)
bool makes_condition_that_holds(const TraceEntry& entry) {
  return entry.size_ == 1 && (is_running("aten::all") || is_running("aten::isfinite"));
}

// Called under the allocator's lock, once per event.
void follow(const TraceEntry& entry) {
  DeviceRecord& device = device_record(entry.device_);
  read_account(device, entry.device_);
  if (entry.action_ == TraceEntry::ALLOC) {
    ++device.allocations;
    LastAllocation& last = last_allocation(entry.device_);
    last.phase = current_phase();
    set_text(last.operation, doing.operation());
    tidemark_phantom_record()->phases |= 1 << static_cast<int>(last.phase);
    note_at_least(device, last, static_cast<std::int64_t>(entry.size_));
    if (makes_condition_that_holds(entry)) {
      tidemark_phantom_assume_true(reinterpret_cast<void*>(entry.addr_));
    }
  } else if (entry.action_ == TraceEntry::FREE_COMPLETED) {
    tidemark_phantom_forget(reinterpret_cast<void*>(entry.addr_), entry.size_);
  }
}

// Operators that read from the GPU how large their result is.
struct SizedByValues {
  const char* operation;
  const char* call;
  std::atomic<CallRecord*> record = nullptr;
};

SizedByValues* sizing_operation() {
  static std::array<SizedByValues, 5> all{{
      {"aten::nonzero", "the size of nonzero()'s result (also of a boolean mask), read as 0"},
      {"aten::_unique2", "the size of unique()'s result, read as 0"},
      {"aten::unique_dim", "the size of unique()'s result, read as 0"},
      {"aten::unique_consecutive", "the size of unique_consecutive()'s result, read as 0"},
      {"aten::repeat_interleave", "the size of repeat_interleave()'s result, read as 0"},
  }};
  for (auto name = doing.operations.rbegin(); name != doing.operations.rend(); ++name) {
    for (SizedByValues& sized : all) {
      if (std::strcmp(*name, sized.operation) == 0) return &sized;
    }
  }
  return nullptr;
}

// item() of an integer. What only bounds classes makes no size where their number is given.
bool is_taken_for_number(std::size_t bytes) {
  constexpr std::size_t integer_bytes = 8;
  return bytes == integer_bytes && !doing.operations.empty() &&
         std::strcmp(doing.operations.back(), "aten::_local_scalar_dense") == 0 &&
         !is_running("aten::one_hot") && !is_running("aten::bincount");
}

// Python prints a tensor by the elements that it selects from it.
bool may_be_printing() { return !at::GradMode::is_enabled() && is_running("aten::masked_select"); }

void note_read(std::size_t bytes, int is_written) {
  if (bytes == 1 || may_be_printing()) return;  // a condition, or nothing that is held
  if (SizedByValues* sized = sizing_operation()) {
    tidemark_phantom_count(sized->call, Answer::modelled, &sized->record);
  } else if (is_written == 0 && is_taken_for_number(bytes)) {
    ++tidemark_phantom_record()->numbers;
  }
}

// What the last event before the end of the process did.
void read_last_accounts() {
  for (int index = 0; index < tidemark_phantom_device_count(); ++index) {
    const auto device = static_cast<c10::DeviceIndex>(index);
    read_account(device_record(device), device);
  }
}

// So many of the last events are kept: of a step of a large model some hundred thousand.
constexpr std::size_t most_snapshot_events = 1'000'000;

pid_t observed_process = 0;

std::string own_path() {
  static const char here = 0;
  Dl_info info{};
  return dladdr(&here, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

// The last chance to write is when the process ends; before, Python has one, and knows its lines.
void begin_snapshot() {
  namespace allocator = c10::cuda::CUDACachingAllocator;
  observed_process = getpid();
  begin_stacks(own_path().c_str(), "tidemark_phantom_leave_snapshot");
  allocator::recordHistory(true, gather_stack, most_snapshot_events,
                           allocator::RecordContext::ALLOC, false, {});
}

void leave_snapshot() {
  static bool is_left = false;
  const char* const folder = std::getenv(records_variable);
  if (folder == nullptr || getpid() != observed_process || std::exchange(is_left, true)) return;
  const std::string path = std::string(folder) + "/" + std::to_string(observed_process) + ".pickle";
  try {
    const std::string content = torch::cuda::_memory_snapshot_pickled();
    std::ofstream(path, std::ios::binary)
        .write(content.data(), static_cast<std::streamsize>(content.size()));
  } catch (const std::exception&) {
    // The report says that there is none.
  }
}

void note_out_of_memory(std::int64_t device_index, std::size_t bytes, std::size_t,
                        std::size_t free_bytes) {
  DeviceRecord& device = device_record(static_cast<c10::DeviceIndex>(device_index));
  ++device.out_of_memory;
  device.refused_bytes = static_cast<std::int64_t>(bytes);
  device.refused_allocated = device.allocated;
  device.refused_reserved = device.reserved;
  device.refused_free = static_cast<std::int64_t>(free_bytes);
  device.refused_phase = current_phase();
  set_text(device.refused_operator, doing.operation());
}

}  // namespace

}  // namespace tidemark::phantom

// Called by Python when it ends.
extern "C" int tidemark_phantom_leave_snapshot() {
  tidemark::phantom::leave_snapshot();
  return 0;
}

// Gives 1 when the allocator is followed from now on.
extern "C" int tidemark_phantom_observe() {
  namespace allocator = c10::cuda::CUDACachingAllocator;
  if (allocator::get() == nullptr || allocator::get()->name() != "native") return 0;
  allocator::init(tidemark_phantom_device_count());
  allocator::attachAllocatorTraceTracker(tidemark::phantom::follow);
  allocator::attachOutOfMemoryObserver(tidemark::phantom::note_out_of_memory);
  std::atexit(tidemark::phantom::read_last_accounts);
  if (std::getenv(tidemark::phantom::snapshot_variable) != nullptr) {
    tidemark::phantom::begin_snapshot();
    std::atexit(tidemark::phantom::leave_snapshot);
  }
  // Names cost a little for every operator; they are for the report of `tidemark phantom`.
  if (std::getenv(tidemark::phantom::records_variable) != nullptr) {
    tidemark_phantom_on_read(tidemark::phantom::note_read);
    at::addGlobalCallback(
        at::RecordFunctionCallback(tidemark::phantom::begin_operation,
                                   tidemark::phantom::end_operation)
            .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
                     at::RecordScope::USER_SCOPE}));
  }
  return 1;
}
