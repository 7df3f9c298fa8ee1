// The allocator of all CPU tensors, wrapped: it counts the bytes that are alive, exactly as asked
// for, and tells an observer of each allocation and release.
#pragma once

#include <c10/core/Allocator.h>

#include <new>

#include "tidemark/units.hpp"

namespace tidemark {

// Told of each block on the thread that allocates or frees it; calls never overlap. A block of no
// bytes has no address and is not told of.
class AllocationObserver {
 public:
  AllocationObserver() = default;
  AllocationObserver(const AllocationObserver&) = delete;
  AllocationObserver& operator=(const AllocationObserver&) = delete;
  virtual ~AllocationObserver() = default;
  virtual void on_allocate(const void* data, Bytes bytes) = 0;
  // The block is still readable.
  virtual void on_free(const void* data, Bytes bytes) = 0;
};

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
class CountingAllocator final : public c10::Allocator {
 public:
  // Makes it PyTorch's CPU allocator, the first time it is called. Blocks that are older keep
  // their own deleter and are never counted.
  static CountingAllocator& install();

  c10::DataPtr allocate(size_t bytes) override;
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* destination, const void* source, size_t bytes) const override;

  [[nodiscard]] Bytes current_bytes() const;
  // The highest count since reset_peak().
  [[nodiscard]] Bytes peak_bytes() const;
  void reset_peak();

  // At most one; nullptr: none.
  void set_observer(AllocationObserver* observer);

 private:
  CountingAllocator() = default;
};

// Observes for as long as it lives.
class ObserverGuard {
 public:
  explicit ObserverGuard(AllocationObserver& observer);
  ObserverGuard(const ObserverGuard&) = delete;
  ObserverGuard& operator=(const ObserverGuard&) = delete;
  ~ObserverGuard();
};

}  // namespace tidemark
