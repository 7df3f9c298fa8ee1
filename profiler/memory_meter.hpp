// Counts the bytes of one device's storages that are alive, exactly as asked for, and tells an
// observer of each allocation and release. One implementation per kind of device.
#pragma once

#include <cstdint>

#include "tidemark/units.hpp"

namespace tidemark {

// A thread inside a parallel region of an operator. Nobody knows how far such threads overlap, and
// no two runs agree, so their blocks count as if each thread held its most while all others did.
enum class WorkerId : std::int32_t {};
inline constexpr WorkerId no_worker{-1};  // outside of such regions

// Told of each block on the thread that allocates or frees it; calls never overlap. A block of no
// bytes has no address and is not told of. Nothing of PyTorch may be called from it: a GPU's
// allocator holds its lock meanwhile.
class AllocationObserver {
 public:
  AllocationObserver() = default;
  AllocationObserver(const AllocationObserver&) = delete;
  AllocationObserver& operator=(const AllocationObserver&) = delete;
  virtual ~AllocationObserver() = default;
  virtual void on_allocate(const void* data, Bytes bytes, WorkerId worker) = 0;
  // The block is still readable.
  virtual void on_free(const void* data, Bytes bytes) = 0;
};

class MemoryMeter {
 public:
  MemoryMeter() = default;
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;
  virtual ~MemoryMeter() = default;

  [[nodiscard]] virtual Bytes current_bytes() const = 0;
  // The highest count since reset_peak(), workers at their worst.
  [[nodiscard]] virtual Bytes peak_bytes() const = 0;
  virtual void reset_peak() = 0;
  // At most one; nullptr: none.
  virtual void set_observer(AllocationObserver* observer) = 0;
};

// Observes for as long as it lives.
class ObserverGuard {
 public:
  ObserverGuard(MemoryMeter& meter, AllocationObserver& observer) : meter_(meter) {
    meter_.set_observer(&observer);
  }
  ObserverGuard(const ObserverGuard&) = delete;
  ObserverGuard& operator=(const ObserverGuard&) = delete;
  ~ObserverGuard() { meter_.set_observer(nullptr); }

 private:
  MemoryMeter& meter_;
};

}  // namespace tidemark
