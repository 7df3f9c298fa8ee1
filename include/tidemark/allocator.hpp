// PyTorch's CUDA memory, replayed without PyTorch: the caching allocator of torch 2.11.0 (sizes,
// pools, search, split, merge, segments, release and retry at the limit, garbage collection,
// expandable segments, several streams) and the pool of pinned host memory. The real allocator on
// a fake runtime is its oracle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/units.hpp"

namespace tidemark {

// What PYTORCH_ALLOC_CONF sets, as far as it decides bytes.
struct AllocatorSettings {
  static constexpr std::size_t roundup_intervals = 16;  // 1 MiB, 2 MiB, ... 32 GiB and above

  Bytes large_segment_bytes = Bytes{20} << 20;
  // Blocks of this size and more are never split. Absent: every block may be.
  std::optional<Bytes> max_split_bytes;
  Bytes max_non_split_rounding_bytes = Bytes{20} << 20;
  double garbage_collection_threshold = 0;  // share of the allowed memory; 0: off
  // Divisions between two powers of two, by interval; 0 and 1: round to 512 bytes only.
  std::array<std::int64_t, roundup_intervals> roundup_power2_divisions{};
  bool expandable_segments = false;
  double memory_fraction = 1;  // of the device's memory that this process may take
  // backend:cudaMallocAsync is the driver's allocator, which nothing here describes.
  bool is_native = true;

  bool operator==(const AllocatorSettings&) const = default;
};

// Accepts and refuses what torch 2.11.0 does, its carelessness about separators included. Throws
// UsageError: one sentence that names the key and what it takes.
[[nodiscard]] AllocatorSettings parse_allocator_settings(const std::string& text);

// The same settings as text that sets every key, so that nothing of an earlier text survives in a
// process that is told so at run time.
[[nodiscard]] std::string format_allocator_settings(const AllocatorSettings& settings);

struct Level {
  std::int64_t current = 0;
  std::int64_t peak = 0;

  void add(std::int64_t amount) {
    current += amount;
    if (current > peak) peak = current;
  }
  bool operator==(const Level&) const = default;
};

// torch.cuda.memory_stats(), summed over both pools.
struct AllocatorFigures {
  Level allocations;
  Level segments;
  Level active_blocks;
  Level inactive_splits;
  Level allocated_bytes;  // blocks handed out, rounded
  Level reserved_bytes;   // taken from the device
  Level active_bytes;
  Level inactive_split_bytes;
  Level requested_bytes;  // as asked for
  std::int64_t retries = 0;
  std::int64_t out_of_memory = 0;

  bool operator==(const AllocatorFigures&) const = default;
};

// What the device can give. Absent: more than anything asks for.
struct DeviceMemory {
  std::optional<Bytes> total_bytes;
  Bytes taken_bytes = 0;  // by the context, libraries and other processes

  bool operator==(const DeviceMemory&) const = default;
};

// A block handed out; valid until it is freed.
enum class BlockId : std::int32_t {};

// A value: a copy goes on from the same state. Streams are numbered from 0; no block is ever used
// on another stream than its own (record_stream is not modelled). Each call costs a binary search
// and a shift in the sorted free blocks of one stream and pool.
class CachingAllocator {
 public:
  CachingAllocator(const AllocatorSettings& settings, const DeviceMemory& device);

  // nullopt: out of memory, after everything cached was given back as torch does.
  [[nodiscard]] std::optional<BlockId> allocate(Bytes requested, std::int32_t stream = 0);
  void free(BlockId id);
  void empty_cache();
  void reset_peaks();

  [[nodiscard]] const AllocatorFigures& figures() const { return figures_; }
  // Where the block lies; segments lie in the order in which they were taken, as on a device whose
  // addresses only grow.
  [[nodiscard]] std::int64_t address(BlockId block) const;
  [[nodiscard]] Bytes block_bytes(BlockId block) const;
  [[nodiscard]] Bytes device_free_bytes() const;

 private:
  using Index = std::int32_t;
  static constexpr Index none = -1;

  struct Block {
    Bytes size = 0;
    std::int64_t address = 0;
    Bytes requested = 0;
    Index previous = none;  // neighbours in the same segment
    Index next = none;
    Index segment = none;  // of an expandable segment
    std::int32_t stream = 0;
    bool is_small = false;
    bool is_allocated = false;
    bool is_mapped = true;        // false: addresses of an expandable segment without memory
    std::int64_t free_since = 0;  // Pool::searches when it was freed
  };

  // Sorts free blocks by size, then address, and unmapped ones by address.
  struct Key {
    Bytes size = 0;
    std::int64_t address = 0;
    Index block = none;
    auto operator<=>(const Key&) const = default;
  };
  using SortedBlocks = std::vector<Key>;

  struct Pool {
    std::vector<SortedBlocks> free;      // by stream
    std::vector<SortedBlocks> unmapped;  // by stream
    std::int64_t searches = 0;           // counted for garbage collection only
  };

  struct ExpandableSegment {
    std::int64_t address = 0;
    Bytes bytes = 0;
    Bytes page_bytes = 0;
  };

  struct Request {
    Bytes rounded = 0;
    Bytes segment_bytes = 0;
    std::int32_t stream = 0;
    bool is_small = false;
  };

  [[nodiscard]] Bytes rounded_size(Bytes requested) const;
  [[nodiscard]] Bytes segment_size(Bytes rounded) const;
  [[nodiscard]] Pool& pool(bool is_small) { return pools_[is_small ? 1 : 0]; }
  [[nodiscard]] SortedBlocks& free_blocks(const Block& block) {
    return pool(block.is_small).free[static_cast<std::size_t>(block.stream)];
  }
  [[nodiscard]] SortedBlocks& unmapped_blocks(const Block& block) {
    return pool(block.is_small).unmapped[static_cast<std::size_t>(block.stream)];
  }
  [[nodiscard]] Block& at(Index block) { return blocks_[static_cast<std::size_t>(block)]; }
  [[nodiscard]] bool collects_garbage() const;

  Index new_block(const Block& block);
  void insert_free(Index block);
  void insert_unmapped(Index block);
  static void erase(SortedBlocks& blocks, const Key& key);
  void link(Index before, Index block, Index after);

  [[nodiscard]] Index take_free_block(const Request& request);
  [[nodiscard]] Index take_new_block(const Request& request);
  [[nodiscard]] bool take_from_device(Bytes bytes);
  void give_to_device(Bytes bytes);
  [[nodiscard]] bool should_split(const Block& block, Bytes size) const;
  Index hand_out(Index block, Bytes size, Bytes requested);
  [[nodiscard]] Index split(Index block, Bytes size);
  // The size of `neighbour` if it became part of `block`, else 0.
  Bytes merge(Index block, Index neighbour);

  [[nodiscard]] bool release_oversize_blocks(const Request& request);
  void collect_garbage();
  void release_cached_blocks();
  void release_segment(Index block);

  [[nodiscard]] Index find_expandable_block(const Request& request);
  [[nodiscard]] Index take_expandable_block(const Request& request);
  [[nodiscard]] bool map_block(Index block, Bytes size);
  void unmap_block(Index block);

  AllocatorSettings settings_;
  DeviceMemory device_;
  Bytes max_split_bytes_ = std::numeric_limits<Bytes>::max();
  std::optional<Bytes> allowed_bytes_;  // set where a fraction of the memory is
  AllocatorFigures figures_;
  Bytes device_bytes_ = 0;  // taken, in the device's own granularity
  std::int64_t next_address_ = 0;
  std::vector<Block> blocks_;
  std::vector<Index> unused_;  // places in blocks_
  std::vector<ExpandableSegment> expandable_;
  std::array<Pool, 2> pools_;  // large, small
};

// CachingHostAllocator: powers of two, kept for reuse by size, never split.
class PinnedPool {
 public:
  void allocate(Bytes requested);
  void free(Bytes requested);  // of an earlier allocation
  [[nodiscard]] Bytes reserved_bytes() const { return reserved_bytes_; }

 private:
  std::array<std::int64_t, 64> free_blocks_{};  // by exponent
  Bytes reserved_bytes_ = 0;
};

}  // namespace tidemark
