// The live bytes of one GPU's storages, from the events of PyTorch's caching allocator.
#pragma once

#include <c10/core/Device.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "memory_meter.hpp"

namespace tidemark {

// What the allocator had when it gave up.
struct CudaOutOfMemory {
  Bytes asked = 0;
  Bytes free = 0;
  Bytes total = 0;
};

// One for the process: the allocator's trackers cannot be taken off again.
class CudaMeter final : public MemoryMeter {
 public:
  // Starts counting on this GPU, the first time it is called. Blocks that are older count as 0
  // bytes when they are freed.
  static CudaMeter& install(c10::DeviceIndex device);

  [[nodiscard]] Bytes current_bytes() const override { return current_.load(); }
  [[nodiscard]] Bytes peak_bytes() const override { return peak_.load(); }
  void reset_peak() override { peak_.store(current_.load()); }
  void set_observer(AllocationObserver* observer) override;

  [[nodiscard]] std::optional<CudaOutOfMemory> last_out_of_memory() const;

 private:
  explicit CudaMeter(c10::DeviceIndex device);
  void take(const c10::cuda::CUDACachingAllocator::TraceEntry& entry);

  c10::DeviceIndex device_;
  std::atomic<Bytes> current_{0};
  std::atomic<Bytes> peak_{0};
  mutable std::mutex mutex_;
  AllocationObserver* observer_ = nullptr;
  std::unordered_map<std::size_t, Bytes> blocks_;  // bytes asked for, by address
  Bytes reserved_ = 0;                             // segments that the allocator holds
  std::optional<CudaOutOfMemory> out_of_memory_;
};

}  // namespace tidemark
