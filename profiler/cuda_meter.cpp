#include "cuda_meter.hpp"

#include <algorithm>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace allocator = c10::cuda::CUDACachingAllocator;

CudaMeter& CudaMeter::install(c10::DeviceIndex device) {
  // Never destroyed: the allocator goes on calling it.
  static auto* const meter = new CudaMeter(device);
  if (meter->device_ != device) {
    throw InternalError("one process counts the memory of one GPU");
  }
  return *meter;
}

CudaMeter::CudaMeter(c10::DeviceIndex device) : device_(device) {
  allocator::attachAllocatorTraceTracker(
      [this](const allocator::TraceEntry& entry) { take(entry); });
  allocator::attachOutOfMemoryObserver(
      [this](std::int64_t, std::size_t asked, std::size_t total, std::size_t free) {
        const std::scoped_lock lock(mutex_);
        // A limit on the allocator may leave less than the device has.
        const auto allowed = static_cast<Bytes>(total);
        out_of_memory_ = {.asked = static_cast<Bytes>(asked),
                          .free = std::min(static_cast<Bytes>(free), allowed - reserved_),
                          .total = allowed};
      });
}

void CudaMeter::set_observer(AllocationObserver* observer) {
  const std::scoped_lock lock(mutex_);
  observer_ = observer;
}

std::optional<CudaOutOfMemory> CudaMeter::last_out_of_memory() const {
  const std::scoped_lock lock(mutex_);
  return out_of_memory_;
}

// Called while the allocator's lock is held.
void CudaMeter::take(const allocator::TraceEntry& entry) {
  if (entry.device_ != device_) return;
  using Entry = allocator::TraceEntry;
  const std::scoped_lock lock(mutex_);
  const auto size = static_cast<Bytes>(entry.size_);
  if (entry.action_ == Entry::SEGMENT_ALLOC || entry.action_ == Entry::SEGMENT_MAP) {
    reserved_ += size;
  }
  if (entry.action_ == Entry::SEGMENT_FREE || entry.action_ == Entry::SEGMENT_UNMAP) {
    reserved_ -= size;
  }
  const bool is_free = entry.action_ == Entry::FREE_REQUESTED;
  if (!is_free && entry.action_ != Entry::ALLOC) return;
  const auto address = static_cast<std::size_t>(entry.addr_);
  // The allocator speaks of addresses as numbers.
  const void* data = reinterpret_cast<const void*>(address);  // NOLINT
  if (!is_free) {
    blocks_[address] = size;
    const Bytes level = current_.fetch_add(size) + size;
    if (level > peak_.load()) peak_.store(level);
    if (observer_ != nullptr) observer_->on_allocate(data, size, no_worker);
    return;
  }
  const auto block = blocks_.find(address);
  if (block == blocks_.end()) return;
  if (observer_ != nullptr) observer_->on_free(data, block->second);
  current_.fetch_sub(block->second);
  blocks_.erase(block);
}

}  // namespace tidemark
