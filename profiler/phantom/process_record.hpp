// What one process did on the phantom GPU, as plain data in memory that outlives it: the stand-in
// libraries write it while the process runs, `tidemark phantom` reads it afterwards, however the
// process ended.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace tidemark::phantom {

inline constexpr std::size_t most_devices = 16;
inline constexpr std::size_t most_calls = 512;

// The stand-ins' own environment, set by activate() and `tidemark phantom`, never by a user.
inline constexpr const char* profile_variable = "TIDEMARK_PHANTOM_PROFILE";  // JSON
inline constexpr const char* records_variable = "TIDEMARK_PHANTOM_RECORDS";  // a folder
inline constexpr const char* devices_variable = "TIDEMARK_PHANTOM_DEVICES";  // how many
inline constexpr const char* backlog_variable = "TIDEMARK_PHANTOM_BACKLOG";  // 1: see streams.cpp
// 1: a process leaves its allocator's history as NUMBER.pickle in the folder of records.
inline constexpr const char* snapshot_variable = "TIDEMARK_PHANTOM_SNAPSHOT";
// A number of kernels after which the card fails for good, to try what a program does then.
inline constexpr const char* lost_variable = "TIDEMARK_PHANTOM_LOST_AFTER";

// Where in a training step: told by autograd's and the optimizers' own marks.
enum class Phase : std::int32_t { unknown, forward, backward, recomputation, optimizer };

// How a call was answered that has no exact answer here.
enum class Answer : std::int32_t {
  ignored,   // succeeded and did nothing
  refused,   // failed with "not supported"
  modelled,  // answered by an assumption; its name says which
};

// Sizes in bytes. Written by one thread at a time (the allocator's lock), read by another process.
struct DeviceRecord {
  std::int64_t allocated;
  std::int64_t allocated_peak;
  std::int64_t reserved;
  std::int64_t reserved_peak;
  std::int64_t driver_peak;    // taken from the device in all, context included
  std::int64_t allocations;    // so many blocks were handed out
  std::int64_t out_of_memory;  // so often the allocator gave up
  std::int64_t refused_bytes;  // the last block it could not give
  std::int64_t refused_allocated;
  std::int64_t refused_reserved;
  std::int64_t refused_free;  // left on the device at that moment
  Phase peak_phase;
  Phase refused_phase;
  std::array<char, 120> peak_operator;
  std::array<char, 120> refused_operator;
};

struct CallRecord {
  std::array<char, 88> name;
  Answer answer;
  std::atomic<std::int64_t> times;
};

struct ProcessRecord {
  static constexpr std::uint64_t magic_number = 0x314d4f544e414850;  // "PHANTOM1"
  std::uint64_t magic;
  std::int64_t process;
  std::int64_t parent;
  std::int32_t rank;  // under torchrun and its like; -1: none
  std::int32_t device_count;
  // 0: the allocator's events could not be followed (another torch version), peaks are unknown.
  std::int32_t is_observed;
  std::int32_t used_device;  // the process made a stream or an allocation
  std::int32_t has_ended;    // by returning from main or calling exit
  std::int32_t is_lost;      // the card stopped answering, as was asked for
  // One bit for each Phase in which something was allocated.
  std::atomic<std::int32_t> phases;
  // Calls that failed because the process was forked from one that had used the GPU.
  std::atomic<std::int64_t> refused_after_fork;
  // Single bytes, which are conditions, read where no copy had written.
  std::atomic<std::int64_t> conditions;
  // Eight bytes that a program took for one number, likewise: 0.
  std::atomic<std::int64_t> numbers;
  std::array<char, 512> command;
  std::array<DeviceRecord, most_devices> devices;
  std::array<CallRecord, most_calls> calls;
  std::atomic<std::int32_t> call_count;
};

}  // namespace tidemark::phantom

// Exported by the preloaded library; null where it is not loaded (look it up by dlsym).
extern "C" tidemark::phantom::ProcessRecord* tidemark_phantom_record();
