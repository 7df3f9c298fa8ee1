#include "machine.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "context.hpp"
#include "tidemark/io.hpp"

namespace tidemark::phantom {

namespace {

constexpr std::size_t address_space_bytes = std::size_t{1} << 44;
constexpr std::size_t page_bytes = 4096;
constexpr std::size_t block_bytes = 512;

// Of a block in its page.
std::uint8_t block_bit(std::uintptr_t block) {
  return static_cast<std::uint8_t>(1U << (block % (page_bytes / block_bytes)));
}
constexpr std::size_t largest_real_copy = 64 << 10;
constexpr std::size_t largest_scalar = 8;

std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

std::uintptr_t number(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "tidemark: the phantom GPU cannot start: %s\n", sentence.c_str());
  std::abort();
}

GpuProfile profile_of_environment() {
  const char* text = std::getenv(profile_variable);
  if (text == nullptr) fail("its libraries are loaded, but no profile was given; use tidemark");
  try {
    return parse_gpu_profile(profile_variable, text);
  } catch (const std::exception& error) {
    fail(error.what());
  }
}

// As many cards as ranks share this machine; each rank has its own account of them.
int devices_of_environment() {
  int count = 1;
  for (const char* variable : {devices_variable, "LOCAL_WORLD_SIZE"}) {
    const char* text = std::getenv(variable);
    if (text != nullptr) count = std::max(count, std::atoi(text));
  }
  return std::min(count, static_cast<int>(most_devices));
}

}  // namespace

AddressSpace::AddressSpace() : bytes_(address_space_bytes), used_(segment_bytes) {
  void* start = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    fail("16 TiB of addresses could not be reserved; lift the limit on virtual memory (ulimit -v)");
  }
  start_ = static_cast<char*>(start);
}

char* AddressSpace::reserve(std::size_t bytes) {
  bytes = round_up(bytes, segment_bytes);
  if (used_ + bytes > bytes_) return reserve_released(bytes);
  char* start = start_ + used_;
  used_ += bytes;
  return start;
}

char* AddressSpace::reserve_released(std::size_t bytes) {
  const auto found = std::find_if(released_.begin(), released_.end(),
                                  [&](const auto& range) { return range.second >= bytes; });
  if (found == released_.end()) return nullptr;
  const auto [start, size] = *found;
  released_.erase(found);
  if (size > bytes) released_.emplace(start + bytes, size - bytes);
  return start;
}

void AddressSpace::release(char* start, std::size_t bytes) {
  bytes = round_up(bytes, segment_bytes);
  auto next = released_.lower_bound(start);
  if (next != released_.end() && start + bytes == next->first) {
    bytes += next->second;
    next = released_.erase(next);
  }
  if (next != released_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == start) {
      previous->second += bytes;
      return;
    }
  }
  released_.emplace(start, bytes);
}

bool AddressSpace::holds(const void* pointer) const {
  return number(pointer) - number(start_) < bytes_;
}

// Never destroyed: threads and destructors of other libraries may call to the very end.
Machine& Machine::get() {
  static Machine& machine = *new Machine;
  return machine;
}

Machine::Machine()
    : profile_(profile_of_environment()),
      device_count_(devices_of_environment()),
      has_backlog_(std::getenv(backlog_variable) != nullptr),
      record_(make_process_record(device_count_)),
      taken_(most_devices, static_cast<std::size_t>(profile_.context_memory)) {
  watch_forks();
  std::atexit([] { get().record().has_ended = 1; });
}

bool Machine::take(int device, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  std::size_t& taken = taken_[static_cast<std::size_t>(device)];
  if (taken + bytes > static_cast<std::size_t>(profile_.total_memory)) return false;
  taken += bytes;
  std::int64_t& peak = record_->devices[static_cast<std::size_t>(device)].driver_peak;
  peak = std::max(peak, static_cast<std::int64_t>(taken));
  record_->used_device = 1;
  return true;
}

void Machine::give_back(int device, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  taken_[static_cast<std::size_t>(device)] -= bytes;
}

std::size_t Machine::free_bytes(int device) {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(profile_.total_memory) - taken_[static_cast<std::size_t>(device)];
}

char* Machine::reserve_addresses(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  return addresses_.reserve(bytes);
}

void Machine::release_addresses(char* start, std::size_t bytes) {
  forget(start, bytes);
  const std::lock_guard lock(mutex_);
  addresses_.release(start, bytes);
}

void* Machine::allocate(int device, std::size_t bytes) {
  bytes = round_up(bytes, segment_bytes);
  if (!take(device, bytes)) return nullptr;
  char* start = reserve_addresses(bytes);
  if (start == nullptr) {
    give_back(device, bytes);
    return nullptr;
  }
  const std::lock_guard lock(mutex_);
  allocations_[start] = {bytes, device};
  return start;
}

bool Machine::free(void* pointer) {
  Allocation allocation{};
  {
    const std::lock_guard lock(mutex_);
    const auto found = allocations_.find(static_cast<char*>(pointer));
    if (found == allocations_.end()) return false;
    allocation = found->second;
    allocations_.erase(found);
  }
  release_addresses(static_cast<char*>(pointer), allocation.bytes);
  give_back(allocation.device, allocation.bytes);
  return true;
}

void* Machine::allocate_pinned(std::size_t bytes) {
  bytes = round_up(std::max<std::size_t>(bytes, 1), page_bytes);
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  const std::lock_guard lock(mutex_);
  host_ranges_[static_cast<char*>(start)] = {bytes, false};
  return start;
}

bool Machine::free_pinned(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto found = host_ranges_.find(static_cast<char*>(pointer));
  if (found == host_ranges_.end() || found->second.is_registered) return false;
  munmap(pointer, found->second.bytes);
  host_ranges_.erase(found);
  return true;
}

void Machine::register_host(void* pointer, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  host_ranges_[static_cast<char*>(pointer)] = {bytes, true};
}

bool Machine::unregister_host(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto found = host_ranges_.find(static_cast<char*>(pointer));
  if (found == host_ranges_.end() || !found->second.is_registered) return false;
  host_ranges_.erase(found);
  return true;
}

Place Machine::place_of(const void* pointer) {
  if (addresses_.holds(pointer)) return Place::device;
  const std::lock_guard lock(mutex_);
  const char* address = static_cast<const char*>(pointer);
  auto after = host_ranges_.upper_bound(address);
  if (after == host_ranges_.begin()) return Place::elsewhere;
  const auto& [start, range] = *std::prev(after);
  if (number(address) - number(start) >= range.bytes) return Place::elsewhere;
  return range.is_registered ? Place::registered : Place::pinned;
}

int Machine::device_of(const void* pointer) {
  const std::lock_guard lock(mutex_);
  auto after = allocations_.upper_bound(const_cast<char*>(static_cast<const char*>(pointer)));
  if (after == allocations_.begin()) return current_device();
  const auto& [start, allocation] = *std::prev(after);
  return number(pointer) - number(start) < allocation.bytes ? allocation.device : current_device();
}

void Machine::copy(void* destination, const void* source, std::size_t bytes) {
  if (bytes == 0) return;
  const bool to_device = addresses_.holds(destination);
  const bool from_device = addresses_.holds(source);
  if (bytes <= largest_scalar && from_device && !to_device) {
    const bool is_copied = is_written(source);
    if (bytes == 1 && !is_copied) ++record_->conditions;
    if (const ReadHook hook = read_hook_) hook(bytes, is_copied ? 1 : 0);
  }
  if (bytes <= largest_real_copy || (!to_device && !from_device)) {
    if (to_device) note_written(static_cast<char*>(destination), bytes);
    std::memmove(destination, source, bytes);
  } else if (to_device) {
    forget(destination, bytes);
  } else {
    write_zeros(destination, bytes);
  }
}

void Machine::fill(void* destination, int value, std::size_t bytes) {
  if (!addresses_.holds(destination)) {
    std::memset(destination, value, bytes);
  } else if (value == 0 || bytes > largest_real_copy) {
    forget(destination, bytes);
  } else {
    note_written(static_cast<char*>(destination), bytes);
    std::memset(destination, value, bytes);
  }
}

void Machine::note_written(const char* start, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::uintptr_t end = number(start) + bytes;
  for (std::uintptr_t block = number(start) / block_bytes; block * block_bytes < end; ++block) {
    written_pages_[block * block_bytes / page_bytes] |= block_bit(block);
  }
}

bool Machine::is_written(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto page = written_pages_.find(number(address) / page_bytes);
  return page != written_pages_.end() &&
         (page->second & block_bit(number(address) / block_bytes)) != 0;
}

void Machine::assume_true(void* condition) {
  const std::lock_guard lock(mutex_);
  written_pages_.try_emplace(number(condition) / page_bytes);
  *static_cast<char*>(condition) = 1;
}

void Machine::forget(void* start, std::size_t bytes) {
  if (bytes == 0 || !addresses_.holds(start)) return;
  const std::uintptr_t begin = number(start);
  const std::uintptr_t end = begin + bytes;
  const std::lock_guard lock(mutex_);
  auto page = written_pages_.lower_bound(begin / page_bytes);
  while (page != written_pages_.end() && page->first * page_bytes < end) {
    const std::uintptr_t first = std::max(begin, page->first * page_bytes);
    const std::uintptr_t last = std::min(end, (page->first + 1) * page_bytes);
    char* from = static_cast<char*>(start) + (first - begin);
    if (last - first < page_bytes) {
      std::memset(from, 0, last - first);
      // A block that begins before the range keeps what it holds there.
      for (std::uintptr_t block = round_up(first, block_bytes) / block_bytes;
           block * block_bytes < last; ++block) {
        page->second &= static_cast<std::uint8_t>(~block_bit(block));
      }
      ++page;
    } else {
      madvise(from, page_bytes, MADV_DONTNEED);
      page = written_pages_.erase(page);
    }
  }
}

// A pinned buffer of ours becomes zeros by giving its pages back; touching gigabytes of offloaded
// values would need the host memory that the real run needs.
void Machine::write_zeros(void* destination, std::size_t bytes) {
  char* begin = static_cast<char*>(destination);
  char* end = begin + bytes;
  char* first_page = begin + (round_up(number(begin), page_bytes) - number(begin));
  char* last_page = end - number(end) % page_bytes;
  if (place_of(destination) != Place::pinned || first_page >= last_page) {
    std::memset(destination, 0, bytes);
    return;
  }
  std::memset(begin, 0, static_cast<std::size_t>(first_page - begin));
  madvise(first_page, static_cast<std::size_t>(last_page - first_page), MADV_DONTNEED);
  std::memset(last_page, 0, static_cast<std::size_t>(end - last_page));
}

int& current_device() {
  static thread_local int device = 0;
  return device;
}

}  // namespace tidemark::phantom
