// The rules of torch 2.11.0's CUDACachingAllocator, one after the other.
#include <algorithm>
#include <bit>
#include <utility>

#include "tidemark/allocator.hpp"

namespace tidemark {

namespace {

constexpr Bytes smallest_block = 512;
constexpr Bytes largest_small_block = mebibyte;
constexpr Bytes small_segment = 2 * mebibyte;
constexpr Bytes smallest_own_segment = 10 * mebibyte;  // from here on a segment fits its block
constexpr Bytes device_granularity = 2 * mebibyte;     // of cudaMalloc, and of large segments
// The addresses that an expandable segment takes where the device's size is not known.
constexpr Bytes endless_memory = mebibyte * mebibyte;

constexpr Bytes round_up(Bytes size, Bytes unit) { return (size + unit - 1) / unit * unit; }

// `divisions` is a power of two from 2 on.
Bytes round_to_division(Bytes size, std::int64_t divisions) {
  const auto value = static_cast<std::uint64_t>(size);
  if (std::has_single_bit(value)) return size;
  const std::uint64_t floor = std::bit_floor(value);
  const std::uint64_t division =
      floor >> (std::bit_width(static_cast<std::uint64_t>(divisions)) - 1);
  if (division == 0) return static_cast<Bytes>(floor << 1);
  return static_cast<Bytes>((value + division - 1) & ~(division - 1));
}

void reset(Level& level) { level.peak = level.current; }

}  // namespace

CachingAllocator::CachingAllocator(const AllocatorSettings& settings, const DeviceMemory& device)
    : settings_(settings), device_(device) {
  if (settings.max_split_bytes) max_split_bytes_ = *settings.max_split_bytes;
  if (settings.memory_fraction < 1 && device.total_bytes) {
    allowed_bytes_ =
        static_cast<Bytes>(settings.memory_fraction * static_cast<double>(*device.total_bytes));
  }
}

// ---- Sizes --------------------------------------------------------------------------------------

Bytes CachingAllocator::rounded_size(Bytes requested) const {
  if (requested < smallest_block) return smallest_block;
  constexpr std::size_t first_width = 21;  // of sizes from 1 MiB on
  const std::size_t width =
      std::max(std::bit_width(static_cast<std::uint64_t>(requested)), first_width);
  const std::size_t interval =
      std::min(width - first_width, AllocatorSettings::roundup_intervals - 1);
  const std::int64_t divisions = settings_.roundup_power2_divisions[interval];
  if (divisions > 1 && requested > smallest_block * divisions) {
    return round_to_division(requested, divisions);
  }
  return round_up(requested, smallest_block);
}

Bytes CachingAllocator::segment_size(Bytes rounded) const {
  if (rounded <= largest_small_block) return small_segment;
  if (rounded < smallest_own_segment) return settings_.large_segment_bytes;
  return round_up(rounded, device_granularity);
}

bool CachingAllocator::collects_garbage() const {
  return allowed_bytes_ && settings_.garbage_collection_threshold > 0;
}

// ---- The interface ------------------------------------------------------------------------------

std::optional<BlockId> CachingAllocator::allocate(Bytes requested, std::int32_t stream) {
  Request request;
  request.rounded = rounded_size(requested);
  request.segment_bytes = segment_size(request.rounded);
  request.stream = stream;
  request.is_small = request.rounded <= largest_small_block;
  Pool& searched = pool(request.is_small);
  if (searched.free.size() <= static_cast<std::size_t>(stream)) {
    searched.free.resize(static_cast<std::size_t>(stream) + 1);
    searched.unmapped.resize(static_cast<std::size_t>(stream) + 1);
  }
  Index block = take_free_block(request);
  if (block == none) {
    if (collects_garbage()) collect_garbage();
    block = take_new_block(request);
  }
  if (block == none && release_oversize_blocks(request)) block = take_new_block(request);
  if (block == none) {
    release_cached_blocks();
    ++figures_.retries;
    block = take_new_block(request);
  }
  if (block == none) {
    ++figures_.out_of_memory;
    return std::nullopt;
  }
  return BlockId{hand_out(block, request.rounded, requested)};
}

void CachingAllocator::free(BlockId id) {
  const auto block = static_cast<Index>(id);
  const Bytes size = at(block).size;
  const Bytes requested = at(block).requested;
  at(block).is_allocated = false;
  figures_.allocations.add(-1);
  figures_.allocated_bytes.add(-size);

  std::int64_t splits = 0;
  Bytes split_bytes = 0;
  for (const Index neighbour : {at(block).previous, at(block).next}) {
    if (const Bytes merged = merge(block, neighbour); merged > 0) {
      --splits;
      split_bytes -= merged;
    }
  }
  insert_free(block);
  const Block& freed = at(block);
  if (freed.previous != none || freed.next != none) {
    ++splits;
    split_bytes += freed.size;
  }
  // Free pages of expandable segments can always be given back, so they do not count as split.
  if (freed.segment == none) {
    figures_.inactive_splits.add(splits);
    figures_.inactive_split_bytes.add(split_bytes);
  }
  figures_.active_blocks.add(-1);
  figures_.active_bytes.add(-size);
  figures_.requested_bytes.add(-requested);
}

void CachingAllocator::empty_cache() { release_cached_blocks(); }

void CachingAllocator::reset_peaks() {
  reset(figures_.allocations);
  reset(figures_.segments);
  reset(figures_.active_blocks);
  reset(figures_.inactive_splits);
  reset(figures_.allocated_bytes);
  reset(figures_.reserved_bytes);
  reset(figures_.active_bytes);
  reset(figures_.inactive_split_bytes);
  reset(figures_.requested_bytes);
}

std::int64_t CachingAllocator::address(BlockId block) const {
  return blocks_[index(block)].address;
}

Bytes CachingAllocator::block_bytes(BlockId block) const { return blocks_[index(block)].size; }

Bytes CachingAllocator::device_free_bytes() const {
  return device_.total_bytes.value_or(std::numeric_limits<Bytes>::max()) - device_.taken_bytes -
         device_bytes_;
}

// ---- Blocks and their order ---------------------------------------------------------------------

CachingAllocator::Index CachingAllocator::new_block(const Block& block) {
  if (!unused_.empty()) {
    const Index place = unused_.back();
    unused_.pop_back();
    at(place) = block;
    return place;
  }
  blocks_.push_back(block);
  return static_cast<Index>(blocks_.size()) - 1;
}

void CachingAllocator::insert_free(Index block) {
  Block& freed = at(block);
  freed.free_since = pool(freed.is_small).searches;
  SortedBlocks& blocks = free_blocks(freed);
  const Key key{.size = freed.size, .address = freed.address, .block = block};
  blocks.insert(std::upper_bound(blocks.begin(), blocks.end(), key), key);
}

void CachingAllocator::insert_unmapped(Index block) {
  SortedBlocks& blocks = unmapped_blocks(at(block));
  const Key key{.size = 0, .address = at(block).address, .block = block};
  blocks.insert(std::upper_bound(blocks.begin(), blocks.end(), key), key);
}

void CachingAllocator::erase(SortedBlocks& blocks, const Key& key) {
  blocks.erase(std::lower_bound(blocks.begin(), blocks.end(), key));
}

void CachingAllocator::link(Index before, Index block, Index after) {
  if (before != none) at(before).next = block;
  if (after != none) at(after).previous = block;
  at(block).previous = before;
  at(block).next = after;
}

Bytes CachingAllocator::merge(Index block, Index neighbour) {
  if (neighbour == none) return 0;
  const Block source = at(neighbour);
  if (source.is_allocated || source.is_mapped != at(block).is_mapped) return 0;
  if (source.is_mapped) {
    erase(free_blocks(source), {source.size, source.address, neighbour});
  } else {
    erase(unmapped_blocks(source), {0, source.address, neighbour});
  }
  if (at(block).previous == neighbour) {
    at(block).address = source.address;
    link(source.previous, block, at(block).next);
  } else {
    link(at(block).previous, block, source.next);
  }
  at(block).size += source.size;
  unused_.push_back(neighbour);
  return source.size;
}

// ---- Search, split, hand out --------------------------------------------------------------------

CachingAllocator::Index CachingAllocator::take_free_block(const Request& request) {
  Pool& searched = pool(request.is_small);
  if (collects_garbage()) ++searched.searches;
  SortedBlocks& blocks = searched.free[static_cast<std::size_t>(request.stream)];
  auto found = std::lower_bound(blocks.begin(), blocks.end(),
                                Key{.size = request.rounded, .address = -1, .block = none});
  if (found == blocks.end()) return none;
  if (settings_.expandable_segments) {
    // A block that can grow counts with the size that it can grow to.
    const auto expandable_size = [this](const Key& key) {
      const Index next = at(key.block).next;
      return key.size + (next != none && !at(next).is_mapped ? at(next).size : 0);
    };
    for (auto next = found + 1;
         next != blocks.end() && expandable_size(*next) < expandable_size(*found); ++next) {
      found = next;
    }
  }
  const bool is_oversize = request.rounded >= max_split_bytes_;
  if (!is_oversize && found->size >= max_split_bytes_) return none;
  if (is_oversize && found->size >= request.rounded + settings_.max_non_split_rounding_bytes) {
    return none;
  }
  const Index block = found->block;
  blocks.erase(found);
  return block;
}

bool CachingAllocator::should_split(const Block& block, Bytes size) const {
  const Bytes remaining = block.size - size;
  if (block.is_small || settings_.expandable_segments) return remaining >= smallest_block;
  return size < max_split_bytes_ && remaining > largest_small_block;
}

// The low part becomes a block of its own, the rest stays free.
CachingAllocator::Index CachingAllocator::split(Index block, Bytes size) {
  Block low = at(block);
  low.size = size;
  const Index taken = new_block(low);
  link(low.previous, taken, block);
  Block& rest = at(block);
  rest.address += size;
  rest.size -= size;
  insert_free(block);
  return taken;
}

CachingAllocator::Index CachingAllocator::hand_out(Index block, Bytes size, Bytes requested) {
  const Block found = at(block);
  const bool was_split = found.previous != none || found.next != none;
  const bool counts_splits = found.segment == none;
  if (should_split(found, size)) {
    block = split(block, size);
    if (counts_splits && was_split) {
      figures_.inactive_split_bytes.add(-size);
    } else if (counts_splits) {
      figures_.inactive_split_bytes.add(found.size - size);
      figures_.inactive_splits.add(1);
    }
  } else if (counts_splits && was_split) {
    figures_.inactive_split_bytes.add(-found.size);
    figures_.inactive_splits.add(-1);
  }
  Block& taken = at(block);
  taken.is_allocated = true;
  taken.requested = requested;
  figures_.allocations.add(1);
  figures_.allocated_bytes.add(taken.size);
  figures_.active_blocks.add(1);
  figures_.active_bytes.add(taken.size);
  figures_.requested_bytes.add(requested);
  return block;
}

// ---- Segments -----------------------------------------------------------------------------------

bool CachingAllocator::take_from_device(Bytes bytes) {
  if (bytes > device_free_bytes()) return false;
  device_bytes_ += bytes;
  return true;
}

void CachingAllocator::give_to_device(Bytes bytes) { device_bytes_ -= bytes; }

CachingAllocator::Index CachingAllocator::take_new_block(const Request& request) {
  const Bytes bytes = request.segment_bytes;
  if (allowed_bytes_ && figures_.reserved_bytes.current + bytes > *allowed_bytes_) return none;
  if (settings_.expandable_segments) return take_expandable_block(request);
  const Bytes device_bytes = round_up(bytes, device_granularity);
  if (!take_from_device(device_bytes)) return none;
  Block block;
  block.size = bytes;
  block.address = next_address_;
  block.stream = request.stream;
  block.is_small = request.is_small;
  next_address_ += device_bytes;
  figures_.segments.add(1);
  figures_.reserved_bytes.add(bytes);
  return new_block(block);
}

void CachingAllocator::release_segment(Index block) {
  const Block released = at(block);
  erase(free_blocks(released), {released.size, released.address, block});
  give_to_device(round_up(released.size, device_granularity));
  figures_.segments.add(-1);
  figures_.reserved_bytes.add(-released.size);
  unused_.push_back(block);
}

// With a limit on splitting: gives back one block that is large enough, else the largest ones of
// the stream until they add up. False: they do not.
bool CachingAllocator::release_oversize_blocks(const Request& request) {
  if (!settings_.max_split_bytes) return false;
  SortedBlocks& blocks = pool(request.is_small).free[static_cast<std::size_t>(request.stream)];
  const Bytes wanted = std::max(request.rounded, max_split_bytes_);
  const auto found = std::lower_bound(blocks.begin(), blocks.end(),
                                      Key{.size = wanted, .address = -1, .block = none});
  if (settings_.expandable_segments) return false;  // none of them is a segment of its own
  if (found != blocks.end()) {
    release_segment(found->block);
    return true;
  }
  Bytes released = 0;
  while (released < wanted && !blocks.empty() && blocks.back().size >= max_split_bytes_) {
    released += blocks.back().size;
    release_segment(blocks.back().block);
  }
  return released >= wanted;
}

// Above the threshold, gives back whole large segments that were not used for longer than the
// average, until enough is reclaimed. A pass is never cut short.
void CachingAllocator::collect_garbage() {
  const auto threshold = static_cast<Bytes>(settings_.garbage_collection_threshold *
                                            static_cast<double>(*allowed_bytes_));
  const Bytes target = figures_.reserved_bytes.current - threshold;
  if (target <= 0) return;
  Pool& large = pool(false);
  std::vector<Index> candidates;
  std::int64_t total_age = 0;
  const auto age = [&](Index block) { return large.searches - at(block).free_since; };
  for (const SortedBlocks& blocks : large.free) {
    for (const Key& key : blocks) {
      const Block& block = at(key.block);
      if (block.previous != none || block.next != none || block.segment != none) continue;
      candidates.push_back(key.block);
      total_age += age(key.block);
    }
  }
  Bytes reclaimed = 0;
  bool releases = true;
  while (reclaimed < target && releases && !candidates.empty()) {
    const double average = static_cast<double>(total_age) / static_cast<double>(candidates.size());
    const auto is_young = [&](Index block) { return static_cast<double>(age(block)) < average; };
    const auto old = std::stable_partition(candidates.begin(), candidates.end(), is_young);
    releases = old != candidates.end();
    std::for_each(old, candidates.end(), [&](Index block) {
      reclaimed += at(block).size;
      total_age -= age(block);
      release_segment(block);
    });
    candidates.erase(old, candidates.end());
  }
}

void CachingAllocator::release_cached_blocks() {
  for (Pool& cached : pools_) {
    std::vector<Index> whole;
    std::vector<Index> expandable;
    for (const SortedBlocks& blocks : cached.free) {
      for (const Key& key : blocks) {
        const Block& block = at(key.block);
        if (block.segment != none) {
          expandable.push_back(key.block);
        } else if (block.previous == none && block.next == none) {
          whole.push_back(key.block);
        }
      }
    }
    for (const Index block : whole) release_segment(block);
    for (const Index block : expandable) unmap_block(block);
  }
}

// ---- Expandable segments ------------------------------------------------------------------------

// The lowest addresses where `request` fits, whether they have memory or not.
CachingAllocator::Index CachingAllocator::find_expandable_block(const Request& request) {
  const auto is_free = [this](Index block) { return block != none && !at(block).is_allocated; };
  for (const Key& key : pool(request.is_small).unmapped[static_cast<std::size_t>(request.stream)]) {
    const Index before = at(key.block).previous;
    const Index begin = is_free(before) ? before : key.block;
    Bytes room = 0;
    for (Index b = begin; room < request.rounded && is_free(b); b = at(b).next) {
      room += at(b).size;
    }
    if (room >= request.rounded) return begin;
  }
  const Bytes total = device_.total_bytes.value_or(endless_memory);
  ExpandableSegment segment;
  segment.page_bytes = request.is_small ? small_segment : settings_.large_segment_bytes;
  segment.bytes = round_up(total + total / 8, segment.page_bytes);
  segment.address = next_address_;
  next_address_ += round_up(segment.bytes, device_granularity);
  Block block;
  block.size = segment.bytes;
  block.address = segment.address;
  block.segment = static_cast<Index>(expandable_.size());
  block.stream = request.stream;
  block.is_small = request.is_small;
  block.is_mapped = false;
  expandable_.push_back(segment);
  const Index made = new_block(block);
  insert_unmapped(made);
  return made;
}

CachingAllocator::Index CachingAllocator::take_expandable_block(const Request& request) {
  Index block = find_expandable_block(request);
  if (!at(block).is_mapped && !map_block(block, std::min(at(block).size, request.rounded))) {
    return none;
  }
  while (at(block).size < request.rounded) {
    const Index next = at(block).next;
    const Bytes missing = request.rounded - at(block).size;
    if (!map_block(next, std::min(missing, at(next).size))) return none;
    block = next;  // which has taken `block` in
  }
  erase(free_blocks(at(block)), {at(block).size, at(block).address, block});
  return block;
}

// Puts memory behind the first pages of an unmapped block, which becomes a free one.
bool CachingAllocator::map_block(Index block, Bytes size) {
  const Bytes bytes =
      round_up(size, expandable_[static_cast<std::size_t>(at(block).segment)].page_bytes);
  if (!take_from_device(bytes)) return false;
  erase(unmapped_blocks(at(block)), {0, at(block).address, block});
  if (bytes < at(block).size) {
    Block rest = at(block);
    rest.address += bytes;
    rest.size -= bytes;
    const Index after = new_block(rest);
    link(block, after, rest.next);
    insert_unmapped(after);
  }
  at(block).size = bytes;
  at(block).is_mapped = true;
  merge(block, at(block).previous);
  merge(block, at(block).next);
  insert_free(block);
  figures_.reserved_bytes.add(bytes);
  return true;
}

// Takes the memory from behind all pages that lie wholly in a free block.
void CachingAllocator::unmap_block(Index block) {
  const Block whole = at(block);
  const ExpandableSegment& segment = expandable_[static_cast<std::size_t>(whole.segment)];
  const Bytes offset = whole.address - segment.address;
  const Bytes begin = round_up(offset, segment.page_bytes);
  const Bytes end = (offset + whole.size) / segment.page_bytes * segment.page_bytes;
  if (begin >= end) return;
  erase(free_blocks(whole), {whole.size, whole.address, block});
  if (begin > offset) {
    Block before = whole;
    before.size = begin - offset;
    const Index made = new_block(before);
    link(whole.previous, made, block);
    insert_free(made);
  }
  if (offset + whole.size > end) {
    Block after = whole;
    after.address = segment.address + end;
    after.size = offset + whole.size - end;
    const Index made = new_block(after);
    link(block, made, whole.next);
    insert_free(made);
  }
  at(block).address = segment.address + begin;
  at(block).size = end - begin;
  at(block).is_mapped = false;
  merge(block, at(block).previous);
  merge(block, at(block).next);
  give_to_device(end - begin);
  figures_.reserved_bytes.add(begin - end);
  if (at(block).previous == none && at(block).next == none) {
    unused_.push_back(block);  // nothing of the segment is left
  } else {
    insert_unmapped(block);
  }
}

}  // namespace tidemark
