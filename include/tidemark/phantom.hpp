// The phantom GPU: CUDA programs on a card that is not there. PyTorch runs its CUDA code with its
// own caching allocator on stand-in libraries; kernels do nothing and device memory is never
// touched. Implemented in profiler/phantom/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/gpu_profile.hpp"
#include "tidemark/phantom_call.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// Where in a training step, as autograd and the optimizers mark it.
enum class PhantomPhase : std::int32_t { unknown, forward, backward, recomputation, optimizer };

struct PhantomPlace {
  PhantomPhase phase = PhantomPhase::unknown;
  std::string operation;  // the operator or autograd node; empty: outside of any
  bool operator==(const PhantomPlace&) const = default;
};

// The last time the allocator gave up, after releasing what it could.
struct PhantomOutOfMemory {
  std::int64_t times = 0;
  Bytes requested = 0;
  Bytes allocated = 0;
  Bytes reserved = 0;
  Bytes free = 0;
  PhantomPlace place;
  bool operator==(const PhantomOutOfMemory&) const = default;
};

struct PhantomDevice {
  std::int32_t index = 0;
  Bytes allocated_peak = 0;
  Bytes reserved_peak = 0;
  Bytes taken_peak = 0;  // everything on the device, context included
  PhantomPlace peak;     // of allocated bytes
  std::optional<PhantomOutOfMemory> out_of_memory;
  bool operator==(const PhantomDevice&) const = default;
};

struct PhantomProcess {
  std::int64_t id = 0;
  std::optional<std::int32_t> rank;  // under torchrun and its like
  std::string command;
  // False where another torch version's allocator could not be followed: then only taken_peak is
  // known.
  bool is_observed = false;
  bool ran_backward = false;  // as far as it is observed
  bool has_ended = false;     // by returning from main or calling exit
  bool is_card_lost = false;  // it failed, as it was asked to
  // Calls that failed because the process was forked from one that had used the GPU.
  std::int64_t refused_after_fork = 0;
  // Conditions that it read from the device, whose kernels make none: all() and isfinite() held, any
  // other did not.
  std::int64_t conditions = 0;
  std::int64_t numbers = 0;            // whole numbers likewise: they were 0
  std::vector<PhantomDevice> devices;  // those it used
  std::vector<PhantomCall> calls;
  std::optional<std::string> snapshot;  // the file, where one was asked for and left
  bool operator==(const PhantomProcess&) const = default;
};

struct PhantomRequest {
  GpuProfile profile;
  std::vector<std::string> command;
  std::int32_t gpus = 0;  // cards in the machine; 0: one for each local rank
  // Asynchronous work counts as done only once the program synchronises: memory that waits for it
  // is held as long as a device far behind would hold it.
  bool has_backlog = false;
  // Where the allocator's history goes, for PyTorch's memory viewer; of several processes each has
  // its own file, memory.1.pickle beside memory.pickle.
  std::optional<std::string> snapshot;
};

struct PhantomRun {
  std::int32_t exit_status = 0;  // the command's; 128 + signal where one ended it
  std::int32_t signal = 0;       // that ended the command; 0: none did
  std::vector<PhantomProcess> processes;
};

// Runs a command and what it starts. Throws UsageError where it cannot be started, DeviceError
// where the phantom's libraries are missing.
[[nodiscard]] PhantomRun run_on_phantom(const PhantomRequest& request);

// Starts this program again, with the same arguments, on the phantom; returns where it already runs
// there. Call it before anything was printed.
void enter_phantom(const GpuProfile& profile);
// The card this process runs on, where it is a phantom.
[[nodiscard]] std::optional<GpuProfile> entered_phantom();
// What this process asked of the phantom so far that has no exact answer.
[[nodiscard]] std::vector<PhantomCall> phantom_calls();

}  // namespace tidemark
