// The phantom machine inside one process: its devices and their memory. Device memory is addresses
// with nothing behind them; only small copies give them bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "process_record.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark::phantom {

inline constexpr std::size_t segment_bytes = std::size_t{2} << 20;  // granularity of cudaMalloc

// Reserved, never touched addresses, handed out in growing order: where an allocation lies is a
// pure function of the calls. Once they are used up, released ranges serve again, lowest first.
class AddressSpace {
 public:
  AddressSpace();
  // Null when there is no room.
  [[nodiscard]] char* reserve(std::size_t bytes);
  void release(char* start, std::size_t bytes);
  [[nodiscard]] bool holds(const void* pointer) const;
  // Stands for every __device__ variable.
  [[nodiscard]] char* variables() const { return start_; }

 private:
  [[nodiscard]] char* reserve_released(std::size_t bytes);

  char* start_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t used_ = 0;
  std::map<char*, std::size_t> released_;
};

// What a pointer points into.
enum class Place : std::uint8_t { elsewhere, device, pinned, registered };

class Machine {
 public:
  // Reads the profile from the environment at the first use; aborts with a sentence without one.
  static Machine& get();

  [[nodiscard]] const GpuProfile& profile() const { return profile_; }
  [[nodiscard]] int device_count() const { return device_count_; }
  [[nodiscard]] bool has_backlog() const { return has_backlog_; }
  [[nodiscard]] ProcessRecord& record() { return *record_; }

  // The account of one device: what is taken, out of total less context.
  [[nodiscard]] bool take(int device, std::size_t bytes);
  void give_back(int device, std::size_t bytes);
  [[nodiscard]] std::size_t free_bytes(int device);

  [[nodiscard]] char* reserve_addresses(std::size_t bytes);
  void release_addresses(char* start, std::size_t bytes);

  // cudaMalloc and cudaFree: addresses and account together.
  [[nodiscard]] void* allocate(int device, std::size_t bytes);
  [[nodiscard]] bool free(void* pointer);

  [[nodiscard]] void* allocate_pinned(std::size_t bytes);
  [[nodiscard]] bool free_pinned(void* pointer);
  void register_host(void* pointer, std::size_t bytes);
  [[nodiscard]] bool unregister_host(void* pointer);

  [[nodiscard]] Place place_of(const void* pointer);
  [[nodiscard]] int device_of(const void* pointer);
  [[nodiscard]] void* variables() const { return addresses_.variables(); }

  // Kernels write nothing, so a read gives the last bytes copied there, or zeros. Copies of more
  // than 64 KiB make zeros: their bytes would cost the memory that the phantom saves.
  void copy(void* destination, const void* source, std::size_t bytes);
  void fill(void* destination, int value, std::size_t bytes);
  // Told of every read of a scalar, and whether a copy had written it.
  using ReadHook = void (*)(std::size_t bytes, int is_written);
  void set_read_hook(ReadHook hook) { read_hook_ = hook; }
  // A byte reads as 1 until it is forgotten, and counts as written by no copy.
  void assume_true(void* condition);
  // Makes a range read as zeros again.
  void forget(void* start, std::size_t bytes);

 private:
  Machine();
  void write_zeros(void* destination, std::size_t bytes);
  void note_written(const char* start, std::size_t bytes);
  [[nodiscard]] bool is_written(const void* address);

  struct Allocation {
    std::size_t bytes;
    int device;
  };
  struct HostRange {
    std::size_t bytes;
    bool is_registered;
  };

  GpuProfile profile_;
  int device_count_ = 1;
  bool has_backlog_ = false;
  ProcessRecord* record_ = nullptr;
  std::atomic<ReadHook> read_hook_ = nullptr;
  std::mutex mutex_;
  AddressSpace addresses_;
  std::vector<std::size_t> taken_;
  std::map<char*, Allocation> allocations_;
  std::map<const char*, HostRange> host_ranges_;
  // Pages of device addresses that hold bytes, so that forgetting what holds none costs nothing,
  // and in which of their blocks of 512 bytes, the smallest that PyTorch hands out, copies wrote.
  std::map<std::uintptr_t, std::uint8_t> written_pages_;
};

// Makes the record of this process: a file in the folder that the environment names, else memory.
[[nodiscard]] ProcessRecord* make_process_record(int device_count);
// In a forked process: an empty record of its own, at the same address.
void renew_process_record(ProcessRecord& record);

// The device of the calling thread, as cudaSetDevice set it.
[[nodiscard]] int& current_device();

}  // namespace tidemark::phantom
