// Hand-worked cases of the caching allocator. That it is PyTorch's, operation for operation, is
// tested against the real one (tests/profiler/allocator_oracle.cpp).
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "tidemark/allocator.hpp"

namespace tidemark {
namespace {

CachingAllocator endless(const AllocatorSettings& settings = {}) { return {settings, {}}; }

BlockId take(CachingAllocator& allocator, Bytes bytes, std::int32_t stream = 0) {
  const auto block = allocator.allocate(bytes, stream);
  REQUIRE(block);
  return *block;
}

TEST_CASE("small blocks are multiples of 512 bytes in segments of 2 MiB", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  const BlockId one = take(allocator, 1);
  const BlockId more = take(allocator, 513);
  CHECK(allocator.block_bytes(one) == 512);
  CHECK(allocator.block_bytes(more) == 1024);
  CHECK(allocator.address(more) == allocator.address(one) + 512);
  const AllocatorFigures& figures = allocator.figures();
  CHECK(figures.requested_bytes.current == 514);
  CHECK(figures.allocated_bytes.current == 1536);
  CHECK(figures.reserved_bytes.current == 2 * mebibyte);
  CHECK(figures.segments.current == 1);
  CHECK(figures.inactive_splits.current == 1);
  CHECK(figures.inactive_split_bytes.current == 2 * mebibyte - 1536);
}

TEST_CASE("the size decides the segment", "[caching_allocator]") {
  const auto reserved_for = [](Bytes bytes) {
    CachingAllocator allocator = endless();
    take(allocator, bytes);
    return allocator.figures().reserved_bytes.current;
  };
  CHECK(reserved_for(mebibyte) == 2 * mebibyte);
  CHECK(reserved_for(mebibyte + 1) == 20 * mebibyte);
  CHECK(reserved_for(10 * mebibyte - 512) == 20 * mebibyte);
  CHECK(reserved_for(10 * mebibyte) == 10 * mebibyte);
  CHECK(reserved_for(11 * mebibyte) == 12 * mebibyte);
}

TEST_CASE("a large block keeps a remainder of up to 1 MiB", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  CHECK(allocator.block_bytes(take(allocator, 11 * mebibyte)) == 12 * mebibyte);
  CHECK(allocator.figures().inactive_splits.current == 0);
  // 2 MiB and more would be left of 20 MiB.
  CHECK(allocator.block_bytes(take(allocator, 9 * mebibyte)) == 9 * mebibyte);
  CHECK(allocator.figures().inactive_split_bytes.current == 11 * mebibyte);
}

TEST_CASE("the smallest block that suffices is taken, at the lowest address",
          "[caching_allocator]") {
  CachingAllocator allocator = endless();
  const BlockId large = take(allocator, 40 * mebibyte);
  const BlockId first = take(allocator, 30 * mebibyte);
  const BlockId second = take(allocator, 30 * mebibyte);
  const std::int64_t low = allocator.address(first);
  const std::int64_t high = allocator.address(second);
  allocator.free(second);
  allocator.free(first);
  allocator.free(large);
  CHECK(allocator.address(take(allocator, 29 * mebibyte)) == low);
  CHECK(allocator.address(take(allocator, 29 * mebibyte)) == high);
  CHECK(allocator.figures().reserved_bytes.current == 100 * mebibyte);
}

TEST_CASE("freed neighbours become one block again", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  std::vector<BlockId> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(take(allocator, 512 * kibibyte));
  CHECK(allocator.figures().inactive_splits.current == 0);
  allocator.free(blocks[0]);
  allocator.free(blocks[2]);
  CHECK(allocator.figures().inactive_splits.current == 2);
  CHECK(allocator.figures().inactive_split_bytes.current == mebibyte);
  allocator.free(blocks[1]);
  CHECK(allocator.figures().inactive_splits.current == 1);
  allocator.free(blocks[3]);
  CHECK(allocator.figures().inactive_splits.current == 0);
  CHECK(allocator.figures().reserved_bytes.current == 2 * mebibyte);
  allocator.empty_cache();
  CHECK(allocator.figures().reserved_bytes.current == 0);
}

TEST_CASE("a segment that is partly in use is not given back", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  take(allocator, mebibyte);
  const BlockId other = take(allocator, mebibyte);
  allocator.free(other);
  allocator.empty_cache();
  CHECK(allocator.figures().reserved_bytes.current == 2 * mebibyte);
}

TEST_CASE("streams do not share blocks", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  allocator.free(take(allocator, 30 * mebibyte, 0));
  take(allocator, 30 * mebibyte, 1);
  CHECK(allocator.figures().reserved_bytes.current == 60 * mebibyte);
  take(allocator, 30 * mebibyte, 0);
  CHECK(allocator.figures().reserved_bytes.current == 60 * mebibyte);
}

TEST_CASE("at the device's limit what is cached is given back first", "[caching_allocator]") {
  CachingAllocator allocator({}, {.total_bytes = 100 * mebibyte, .taken_bytes = 10 * mebibyte});
  const BlockId held = take(allocator, 50 * mebibyte);
  allocator.free(take(allocator, 30 * mebibyte));
  CHECK(allocator.device_free_bytes() == 10 * mebibyte);
  take(allocator, 40 * mebibyte);
  CHECK(allocator.figures().retries == 1);
  CHECK(allocator.figures().out_of_memory == 0);
  CHECK(allocator.figures().reserved_bytes.current == 90 * mebibyte);
  CHECK_FALSE(allocator.allocate(2 * mebibyte));
  CHECK(allocator.figures().out_of_memory == 1);
  allocator.free(held);
  CHECK(allocator.allocate(2 * mebibyte));
}

TEST_CASE("blocks from max_split_size on are kept whole", "[caching_allocator]") {
  CachingAllocator allocator = endless({.max_split_bytes = 40 * mebibyte});
  allocator.free(take(allocator, 60 * mebibyte));
  // Below the limit an oversize block is not taken; above, only a close one is.
  take(allocator, 30 * mebibyte);
  CHECK(allocator.figures().reserved_bytes.current == 90 * mebibyte);
  CHECK(allocator.block_bytes(take(allocator, 41 * mebibyte)) == 60 * mebibyte);
  CHECK(allocator.figures().reserved_bytes.current == 90 * mebibyte);
}

TEST_CASE("garbage collection gives back what is older than the average", "[caching_allocator]") {
  CachingAllocator allocator({.garbage_collection_threshold = 0.5, .memory_fraction = 0.5},
                             {.total_bytes = 400 * mebibyte});
  const BlockId old = take(allocator, 60 * mebibyte);
  const BlockId young = take(allocator, 30 * mebibyte);
  allocator.free(old);
  for (int i = 0; i < 8; ++i) allocator.free(take(allocator, 2 * mebibyte, /*stream=*/1));
  allocator.free(young);
  // 110 MiB are reserved, 100 are the threshold: the next new segment releases the old block.
  take(allocator, 70 * mebibyte);
  CHECK(allocator.figures().reserved_bytes.current == (30 + 20 + 70) * mebibyte);
  CHECK(allocator.figures().retries == 0);
}

TEST_CASE("roundup_power2_divisions widens blocks", "[caching_allocator]") {
  AllocatorSettings settings;
  settings.roundup_power2_divisions.fill(4);
  CachingAllocator allocator = endless(settings);
  CHECK(allocator.block_bytes(take(allocator, 1200 * kibibyte)) == 1280 * kibibyte);
  CHECK(allocator.block_bytes(take(allocator, 2 * mebibyte)) == 2 * mebibyte);
  CHECK(allocator.block_bytes(take(allocator, 1500)) == 1536);  // up to 512 times the divisions
}

TEST_CASE("an expandable segment grows by pages and shrinks by whole ones", "[caching_allocator]") {
  CachingAllocator allocator = endless({.expandable_segments = true});
  const BlockId first = take(allocator, 15 * mebibyte);
  CHECK(allocator.figures().reserved_bytes.current == 20 * mebibyte);
  const BlockId second = take(allocator, 30 * mebibyte);
  CHECK(allocator.address(second) == allocator.address(first) + 15 * mebibyte);
  CHECK(allocator.figures().reserved_bytes.current == 60 * mebibyte);
  CHECK(allocator.figures().segments.current == 0);
  CHECK(allocator.figures().inactive_splits.current == 0);
  allocator.free(second);
  allocator.empty_cache();
  CHECK(allocator.figures().reserved_bytes.current == 20 * mebibyte);
  allocator.free(first);
  allocator.empty_cache();
  CHECK(allocator.figures().reserved_bytes.current == 0);
}

TEST_CASE("peaks start again where they are", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  allocator.free(take(allocator, 30 * mebibyte));
  allocator.reset_peaks();
  CHECK(allocator.figures().allocated_bytes.peak == 0);
  CHECK(allocator.figures().reserved_bytes.peak == 30 * mebibyte);
}

TEST_CASE("a copy goes on from the same state", "[caching_allocator]") {
  CachingAllocator allocator = endless();
  const BlockId block = take(allocator, 30 * mebibyte);
  CachingAllocator copy = allocator;
  copy.free(block);
  CHECK(copy.figures().allocated_bytes.current == 0);
  CHECK(allocator.figures().allocated_bytes.current == 30 * mebibyte);
  allocator.free(block);
  CHECK(copy.figures() == allocator.figures());
}

// Whatever happens: blocks do not overlap, and the levels are sums of them.
TEST_CASE("blocks in use never overlap", "[caching_allocator]") {
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    AllocatorSettings settings{.expandable_segments = seed % 2 == 1};
    if (seed % 4 >= 2) settings.max_split_bytes = 24 * mebibyte;
    CachingAllocator allocator(settings, {.total_bytes = 300 * mebibyte});
    std::vector<BlockId> live;
    for (int i = 0; i < 3000; ++i) {
      if (!live.empty() && random() % 2 == 0) {
        const std::size_t victim = random() % live.size();
        allocator.free(live[victim]);
        live[victim] = live.back();
        live.pop_back();
      } else if (const auto block =
                     allocator.allocate(1 + static_cast<Bytes>(random() % (1U << random() % 25)),
                                        static_cast<std::int32_t>(random() % 2))) {
        live.push_back(*block);
      }
      if (i % 100 != 0) continue;
      Bytes allocated = 0;
      for (const BlockId a : live) {
        allocated += allocator.block_bytes(a);
        for (const BlockId b : live) {
          const bool is_apart =
              a == b || allocator.address(a) + allocator.block_bytes(a) <= allocator.address(b) ||
              allocator.address(b) + allocator.block_bytes(b) <= allocator.address(a);
          REQUIRE(is_apart);
        }
      }
      REQUIRE(allocator.figures().allocated_bytes.current == allocated);
      REQUIRE(allocated <= allocator.figures().reserved_bytes.current);
      REQUIRE(allocator.figures().reserved_bytes.current <= 300 * mebibyte);
    }
    for (const BlockId block : live) allocator.free(block);
    allocator.empty_cache();
    CHECK(allocator.figures().reserved_bytes.current == 0);
    CHECK(allocator.figures().inactive_split_bytes.current == 0);
    CHECK(allocator.device_free_bytes() == 300 * mebibyte);
  }
}

TEST_CASE("pinned memory is reserved in powers of two and used again", "[pinned_pool]") {
  PinnedPool pool;
  pool.allocate(5000);
  CHECK(pool.reserved_bytes() == 8192);
  pool.allocate(8192);
  CHECK(pool.reserved_bytes() == 16384);
  pool.free(5000);
  pool.allocate(4097);
  CHECK(pool.reserved_bytes() == 16384);
  pool.allocate(4096);
  CHECK(pool.reserved_bytes() == 20480);
  pool.allocate(0);
  CHECK(pool.reserved_bytes() == 20480);
}

}  // namespace
}  // namespace tidemark
