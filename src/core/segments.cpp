// Grouping blocks into segments, and what a segment needs from outside.
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "tidemark/setting.hpp"

namespace tidemark {

std::size_t count_blocks(const std::vector<BlockRun>& runs) {
  return std::accumulate(
      runs.begin(), runs.end(), std::size_t{0},
      [](std::size_t sum, const BlockRun& run) { return sum + run.blocks.size(); });
}

namespace {

// K over the runs in proportion to their blocks (largest remainder, earlier run on ties), at least
// one and at most the run's blocks each. Example: K = 4 over runs of 6 and 2 blocks gives 3 and 1.
std::vector<std::size_t> divide_over_runs(const std::vector<BlockRun>& runs, std::size_t k) {
  const std::size_t blocks = count_blocks(runs);
  std::vector<std::size_t> shares;
  std::vector<std::size_t> remainders;
  for (const BlockRun& run : runs) {
    shares.push_back(std::max<std::size_t>(1, k * run.blocks.size() / blocks));
    remainders.push_back(k * run.blocks.size() % blocks);
  }
  std::size_t given = std::accumulate(shares.begin(), shares.end(), std::size_t{0});
  while (given < std::min(k, blocks)) {
    std::size_t best = runs.size();
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (shares[i] == runs[i].blocks.size()) continue;
      if (best == runs.size() || remainders[i] > remainders[best]) best = i;
    }
    ++shares[best];
    remainders[best] = 0;
    ++given;
  }
  return shares;
}

// Sizes of the segments of one run: [4, 4, 2] for 10 blocks and k = 3, or [4, 3, 3] uneven.
std::vector<std::size_t> segment_sizes(std::size_t blocks, std::size_t k, bool uneven) {
  std::vector<std::size_t> sizes;
  if (uneven) {
    for (std::size_t i = 0; i < k; ++i) sizes.push_back(blocks / k + (i < blocks % k ? 1 : 0));
    return sizes;
  }
  const std::size_t group = (blocks + k - 1) / k;
  for (std::size_t begin = 0; begin < blocks; begin += group) {
    sizes.push_back(std::min(group, blocks - begin));
  }
  return sizes;
}

}  // namespace

std::vector<Segment> make_segments(const std::vector<BlockRun>& runs, std::int32_t k, bool uneven) {
  std::vector<Segment> segments;
  if (k < 1 || runs.empty()) return segments;
  const std::size_t wanted = std::min(static_cast<std::size_t>(k), count_blocks(runs));
  const std::vector<std::size_t> shares = divide_over_runs(runs, wanted);
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const std::vector<Block>& blocks = runs[r].blocks;
    std::size_t begin = 0;
    for (const std::size_t size : segment_sizes(blocks.size(), shares[r], uneven)) {
      Segment segment{
          .blocks = {}, .first = blocks[begin].first, .last = blocks[begin + size - 1].last};
      for (std::size_t b = begin; b < begin + size; ++b) segment.blocks.push_back(blocks[b].name);
      segments.push_back(std::move(segment));
      begin += size;
    }
  }
  return segments;
}

std::vector<std::int32_t> distinct_checkpoint_counts(const std::vector<BlockRun>& runs) {
  std::vector<std::int32_t> counts;
  std::vector<std::vector<Segment>> seen;
  for (std::int32_t k = 1; k <= static_cast<std::int32_t>(count_blocks(runs)); ++k) {
    std::vector<Segment> segments = make_segments(runs, k);
    if (std::find(seen.begin(), seen.end(), segments) != seen.end()) continue;
    counts.push_back(k);
    seen.push_back(std::move(segments));
  }
  return counts;
}

std::vector<StorageId> segment_inputs(const StepTrace& trace, const Segment& segment) {
  // 0: made outside, not read yet; 1: made inside, or already listed, or never an input.
  std::vector<char> settled(trace.storages.size(), 0);
  std::vector<StorageId> inputs;
  for (std::size_t o = index(segment.first); o <= index(segment.last); ++o) {
    const Op& op = trace.ops[o];
    const auto note = [&](StorageId id) {
      if (settled[index(id)] != 0) return;
      settled[index(id)] = 1;
      const Role role = trace.storages[index(id)].role;
      if (role != Role::parameter && role != Role::buffer && role != Role::constant) {
        inputs.push_back(id);
      }
    };
    std::for_each(op.reads.begin(), op.reads.end(), note);
    std::for_each(op.writes.begin(), op.writes.end(), note);
    for (const StorageId id : op.creates) settled[index(id)] = 1;
  }
  return inputs;
}

}  // namespace tidemark
