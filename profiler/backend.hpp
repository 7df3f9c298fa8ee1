// What differs between devices while a step is recorded and executed: memory, copies, queues,
// generators and clocks. Everything else in the recorder and the executor is the same code.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "generator_state.hpp"
#include "memory_meter.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/schedule.hpp"

namespace tidemark {

struct MemoryCopy {
  Queue queue = Queue::compute;
  void* to = nullptr;
  const void* from = nullptr;
  std::size_t bytes = 0;
  Place to_place = Place::device;
  Place from_place = Place::device;
};

// The copies of one execution. Work on one queue runs in order; a copy on a side queue starts when
// the compute queue has done what was given to it before.
class CopyQueues {
 public:
  CopyQueues() = default;
  CopyQueues(const CopyQueues&) = delete;
  CopyQueues& operator=(const CopyQueues&) = delete;
  virtual ~CopyQueues() = default;

  virtual void copy(StepId step, const MemoryCopy& copy) = 0;
  // `queue` goes on only after the copy of `event`, which is on another side queue.
  virtual void wait(Queue queue, StepId event) = 0;
  // Side queues only: `queue` goes on only after what the compute queue was given so far.
  virtual void wait_for_compute(Queue queue) = 0;
  // Returns when every queue is idle, operators included.
  virtual void finish() = 0;
};

// What a step of the schedule does, as far as times are told apart.
enum class StepWork : std::uint8_t { operation, recompute, transfer, other };

struct StepTimes {
  std::optional<double> step_seconds;
  std::optional<double> recompute_seconds;
  std::optional<double> transfer_seconds;
  // By step, and one for the end: when it began. Empty where the device cannot tell.
  std::vector<Nanoseconds> begins;
  std::vector<std::string> notes;
};

// Times the steps of one execution.
class StepTimer {
 public:
  StepTimer() = default;
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;
  virtual ~StepTimer() = default;

  virtual void begin(StepWork work) = 0;
  virtual void end(StepWork work) = 0;
  // Called when the queues are idle.
  [[nodiscard]] virtual StepTimes finish() = 0;
};

// What the device's caching allocator says of itself: the highest levels since reset_peaks().
struct AllocatorReading {
  Bytes allocated_peak = 0;
  Bytes reserved_peak = 0;
};

// Memory that a library keeps for itself from its first call on.
struct LibraryWorkspace {
  std::string name;
  const void* data = nullptr;
  Bytes bytes = 0;
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] virtual c10::Device device() const = 0;
  // False: kernels do nothing, so values mean nothing; they are neither kept nor compared.
  [[nodiscard]] virtual bool computes() const = 0;

  [[nodiscard]] virtual MemoryMeter& meter() = 0;
  // Of the meter and of the caching allocator.
  virtual void reset_peaks() = 0;
  // Absent: there is no caching allocator.
  [[nodiscard]] virtual std::optional<AllocatorReading> read_allocator() = 0;
  // What the pool of pinned host memory took; absent: there is none.
  [[nodiscard]] virtual std::optional<Bytes> pinned_reserved_bytes() = 0;
  // As PYTORCH_ALLOC_CONF has them; "": torch's own. Takes effect for what is allocated from now
  // on. Throws DeviceError for settings that a running process cannot change to.
  virtual void set_allocator_settings(const std::string& conf) = 0;
  // Gives back to the device what nobody uses.
  virtual void empty_caches() = 0;
  // Memory that libraries keep for good once a step has run: static storages of every later step.
  [[nodiscard]] virtual std::vector<LibraryWorkspace> library_workspaces() = 0;
  virtual void release_library_workspaces() = 0;
  // What autograd's own thread would need in addition if it ran what the calling thread ran.
  [[nodiscard]] virtual Bytes recomputation_workspace_bytes() = 0;
  // A static storage of the step. Of the libraries' workspaces the first of each kind is made by
  // the library itself, since the calling thread's operators will use it.
  [[nodiscard]] virtual c10::Storage allocate_static(const std::string& name, Bytes bytes) = 0;
  [[nodiscard]] virtual c10::DataPtr allocate_host(Bytes bytes, Place place) = 0;
  // What was asked for when the device had no memory left, and what was free: one sentence.
  [[nodiscard]] virtual std::string describe_out_of_memory() const = 0;

  // Returns when the device has done everything that it was given.
  virtual void synchronize() = 0;
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;
  [[nodiscard]] virtual std::unique_ptr<CopyQueues> make_queues() = 0;
  [[nodiscard]] virtual std::unique_ptr<StepTimer> make_timer(std::size_t steps) = 0;

  // Of every generator that the device's operators may draw from.
  [[nodiscard]] virtual GeneratorState generator_state() const = 0;
  virtual void restore(const GeneratorState& state) = 0;
};

// Counted memory of the device.
[[nodiscard]] c10::Storage allocate_storage(c10::Device device, Bytes bytes);

// The bytes of a storage as they are now, outside counted memory.
[[nodiscard]] std::vector<std::uint8_t> bytes_of(Backend& backend, const c10::Storage& storage);

}  // namespace tidemark
