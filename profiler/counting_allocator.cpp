#include "counting_allocator.hpp"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <limits>
#include <mutex>

namespace tidemark {

namespace {

// In front of each block. Some callers (oneDNN) release a block by its address alone, so its size
// cannot live in a context object; 64 bytes keep the data aligned as it came.
constexpr std::size_t header_bytes = 64;

// A deleter is a plain function, so what it counts into is global.
struct Counters {
  std::atomic<Bytes> current{0};
  std::atomic<Bytes> peak{0};
  std::atomic<AllocationObserver*> observer{nullptr};
  std::mutex observing;
};

Counters& counters() {
  static Counters instance;
  return instance;
}

void raise_peak(Bytes level) {
  Bytes peak = counters().peak.load(std::memory_order_relaxed);
  while (level > peak && !counters().peak.compare_exchange_weak(peak, level)) {
  }
}

void release(void* data) {
  if (data == nullptr) return;
  auto* block = static_cast<std::byte*>(data) - header_bytes;
  const Bytes bytes = *static_cast<const Bytes*>(static_cast<const void*>(block));
  if (counters().observer.load(std::memory_order_acquire) != nullptr) {
    const std::scoped_lock lock(counters().observing);
    AllocationObserver* observer = counters().observer.load();
    if (observer != nullptr) observer->on_free(data, bytes);
  }
  counters().current.fetch_sub(bytes, std::memory_order_relaxed);
  c10::free_cpu(block);
}

// What a step frees stays with the process. Otherwise each step pays, or does not, for fresh pages,
// depending on what malloc gave back to the system before: a tenth of a step's time, at random.
void keep_freed_pages() {
  constexpr int largest_mmap_threshold = 32 << 20;  // malloc takes no more
  mallopt(M_MMAP_THRESHOLD, largest_mmap_threshold);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

std::byte* new_block(std::size_t bytes) {
  try {
    return static_cast<std::byte*>(c10::alloc_cpu(header_bytes + bytes));
  } catch (const c10::Error&) {
    throw OutOfMemory(static_cast<Bytes>(bytes));
  }
}

}  // namespace

const char* OutOfMemory::what() const noexcept { return "the machine has no memory left"; }

CountingAllocator& CountingAllocator::install() {
  static CountingAllocator* const allocator = [] {
    // Tensors in static storage may outlive everything: never destroyed.
    keep_freed_pages();
    auto* made = new CountingAllocator();
    c10::SetCPUAllocator(made, /*priority=*/1);
    return made;
  }();
  return *allocator;
}

c10::DataPtr CountingAllocator::allocate(size_t bytes) {
  const c10::Device cpu(c10::kCPU);
  if (bytes == 0) return {nullptr, nullptr, &release, cpu};
  std::byte* block = new_block(bytes);
  const auto counted = static_cast<Bytes>(bytes);
  *static_cast<Bytes*>(static_cast<void*>(block)) = counted;
  raise_peak(counters().current.fetch_add(counted, std::memory_order_relaxed) + counted);
  void* data = block + header_bytes;
  if (counters().observer.load(std::memory_order_acquire) != nullptr) {
    const std::scoped_lock lock(counters().observing);
    AllocationObserver* observer = counters().observer.load();
    if (observer != nullptr) observer->on_allocate(data, counted);
  }
  return {data, data, &release, cpu};
}

c10::DeleterFnPtr CountingAllocator::raw_deleter() const { return &release; }

void CountingAllocator::copy_data(void* destination, const void* source, size_t bytes) const {
  default_copy_data(destination, source, bytes);
}

Bytes CountingAllocator::current_bytes() const { return counters().current.load(); }

Bytes CountingAllocator::peak_bytes() const { return counters().peak.load(); }

void CountingAllocator::reset_peak() { counters().peak.store(counters().current.load()); }

void CountingAllocator::set_observer(AllocationObserver* observer) {
  const std::scoped_lock lock(counters().observing);
  counters().observer.store(observer);
}

}  // namespace tidemark
