#include <bit>

#include "tidemark/allocator.hpp"

namespace tidemark {

namespace {

// Of the power of two that holds as many bytes, which are at least one.
std::size_t exponent_of(Bytes requested) {
  return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(requested - 1)));
}

}  // namespace

void PinnedPool::allocate(Bytes requested) {
  if (requested == 0) return;
  const std::size_t exponent = exponent_of(requested);
  if (free_blocks_.at(exponent) > 0) {
    --free_blocks_[exponent];
  } else {
    reserved_bytes_ += Bytes{1} << exponent;
  }
}

void PinnedPool::free(Bytes requested) {
  if (requested > 0) ++free_blocks_.at(exponent_of(requested));
}

}  // namespace tidemark
