// The allocator of all CPU tensors, wrapped: the meter of the CPU.
#pragma once

#include <c10/core/Allocator.h>

#include <new>

#include "memory_meter.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// The machine has no memory left. Not a c10::Error, so that it is told from an operator's own.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(Bytes asked) : asked_(asked) {}
  [[nodiscard]] const char* what() const noexcept override;
  [[nodiscard]] Bytes asked_bytes() const { return asked_; }

 private:
  Bytes asked_;
};

// Blocks come from PyTorch's own CPU allocator, which aligns them to 64 bytes.
class CountingAllocator final : public c10::Allocator, public MemoryMeter {
 public:
  // Makes it PyTorch's CPU allocator, the first time it is called. Blocks that are older keep
  // their own deleter and are never counted.
  static CountingAllocator& install();

  c10::DataPtr allocate(size_t bytes) override;
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* destination, const void* source, size_t bytes) const override;

  [[nodiscard]] Bytes current_bytes() const override;
  [[nodiscard]] Bytes peak_bytes() const override;
  void reset_peak() override;
  void set_observer(AllocationObserver* observer) override;

 private:
  CountingAllocator() = default;
};

}  // namespace tidemark
