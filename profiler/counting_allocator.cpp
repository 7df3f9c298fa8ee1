#include "counting_allocator.hpp"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <malloc.h>

#include <cstddef>
#include <limits>
#include <mutex>

#include "live_count.hpp"

namespace tidemark {

namespace {

// In front of each block. Some callers (oneDNN) release a block by its address alone, so its size
// cannot live in a context object; 64 bytes keep the data aligned as it came.
constexpr std::size_t header_bytes = 64;

struct Header {
  Bytes bytes;
  WorkerId worker;
};
static_assert(sizeof(Header) <= header_bytes);

// A deleter is a plain function, so what it counts into is global.
struct Counters {
  std::mutex mutex;
  LiveCount live;
  AllocationObserver* observer = nullptr;
  std::int32_t workers = 0;
};

Counters& counters() {
  static Counters instance;
  return instance;
}

// The calling thread's number, if it is in a parallel region.
WorkerId present_worker() {
  if (!at::in_parallel_region()) return no_worker;
  thread_local WorkerId worker = no_worker;
  if (worker == no_worker) {
    const std::scoped_lock lock(counters().mutex);
    worker = static_cast<WorkerId>(counters().workers++);
  }
  return worker;
}

void release(void* data) {
  if (data == nullptr) return;
  auto* block = static_cast<std::byte*>(data) - header_bytes;
  const Header header = *static_cast<const Header*>(static_cast<const void*>(block));
  {
    const std::scoped_lock lock(counters().mutex);
    if (counters().observer != nullptr) counters().observer->on_free(data, header.bytes);
    counters().live.free(header.bytes, header.worker);
  }
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
  const Header header{.bytes = static_cast<Bytes>(bytes), .worker = present_worker()};
  *static_cast<Header*>(static_cast<void*>(block)) = header;
  void* data = block + header_bytes;
  const std::scoped_lock lock(counters().mutex);
  counters().live.allocate(header.bytes, header.worker);
  if (counters().observer != nullptr) {
    counters().observer->on_allocate(data, header.bytes, header.worker);
  }
  return {data, data, &release, cpu};
}

c10::DeleterFnPtr CountingAllocator::raw_deleter() const { return &release; }

void CountingAllocator::copy_data(void* destination, const void* source, size_t bytes) const {
  default_copy_data(destination, source, bytes);
}

Bytes CountingAllocator::current_bytes() const {
  const std::scoped_lock lock(counters().mutex);
  return counters().live.current();
}

Bytes CountingAllocator::peak_bytes() const {
  const std::scoped_lock lock(counters().mutex);
  return counters().live.peak();
}

void CountingAllocator::reset_peak() {
  const std::scoped_lock lock(counters().mutex);
  counters().live.reset_peak();
}

void CountingAllocator::set_observer(AllocationObserver* observer) {
  const std::scoped_lock lock(counters().mutex);
  counters().observer = observer;
}

}  // namespace tidemark
