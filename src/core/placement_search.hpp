// Depth-first search for offsets within a capacity. Private to the core.
//
// Buffers are placed in the order of their offsets, each on top of what already lies below it
// (M. Moffitt, MiniMalloc, ASPLOS 2023: canonical solutions suffice; a buffer that could have been
// put below a gap makes the rest dominated; parts that share no moment are solved apart). Beyond
// that paper: a buffer that was passed over has to rest on one that is not placed yet, which raises
// its least offset; the moments of a part are bounded as one machine with release times; moments
// that end branches gain weight, and later restarts place what lives then first.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tidemark/placement.hpp"

namespace tidemark {

// Lifetimes over numbered moments: between two neighbours of the sorted begins and ends.
struct PlacementProblem {
  struct Buffer {
    std::int32_t first = 0;  // moments [first, last)
    std::int32_t last = 0;
    Bytes bytes = 0;
    std::int64_t width = 0;  // in the lifetimes' own unit
    bool operator==(const Buffer&) const = default;
  };
  explicit PlacementProblem(const std::vector<Lifetime>& lifetimes);

  std::vector<Buffer> buffers;
  std::int32_t moments = 0;
};

class PlacementSearch {
 public:
  // `order` ranks the buffers: the first is placed first among equal offsets. `weights` (one for
  // each moment) grows where a branch ends.
  PlacementSearch(const PlacementProblem& problem, const std::vector<std::int32_t>& order,
                  Bytes capacity, std::vector<double>& weights);

  [[nodiscard]] PlacementVerdict run(std::int64_t most_tries);
  [[nodiscard]] std::int64_t tries() const { return tries_; }
  // By the problem's buffers, once placed.
  [[nodiscard]] std::vector<Bytes> offsets() const;

 private:
  using Rank = std::int32_t;
  using Part = std::vector<Rank>;
  struct Raised {
    Rank rank;
    Bytes top;
    Bytes least;
  };

  void find_overlaps();
  [[nodiscard]] PlacementVerdict search(Part part, Bytes offset, Rank rank);
  [[nodiscard]] PlacementVerdict descend(const Part& rest, Rank placed, Bytes offset);
  [[nodiscard]] PlacementVerdict try_one(const Part& part, Rank rank, Bytes offset, bool& is_last);
  [[nodiscard]] std::vector<Part> components(Part part) const;
  [[nodiscard]] Part candidates(const Part& part, Bytes offset, Rank rank) const;
  [[nodiscard]] bool passes_over(Part& part, Rank rank, Bytes offset);
  [[nodiscard]] bool fits(const Part& part, std::int32_t first, std::int32_t last);
  [[nodiscard]] Bytes least_support(Rank rank, Bytes offset) const;
  void sort_nearly_sorted(Part& part) const;
  [[nodiscard]] bool precedes(Rank a, Rank b) const;

  Bytes capacity_;
  std::vector<double>& weights_;
  std::vector<std::int32_t> original_;  // by rank
  std::vector<PlacementProblem::Buffer> buffers_;
  std::vector<Part> overlaps_;
  std::vector<Rank> twin_;      // an equal buffer of a lower rank, to be placed first
  std::vector<Bytes> top_;      // where the placed ones below it end
  std::vector<Bytes> least_;    // its offset is at least this
  std::vector<Bytes> offsets_;  // final
  std::vector<char> is_placed_;
  std::vector<std::int32_t> crossing_;  // not placed yet and alive in this moment and the next
  std::vector<Bytes> level_;            // scratch of fits()
  std::int64_t tries_ = 0;
  std::int64_t most_tries_ = 0;
};

}  // namespace tidemark
