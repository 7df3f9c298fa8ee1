// Levels over positions: add to a range, ask for the highest; each in logarithmic time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "step_graph.hpp"

namespace tidemark::tide {

class LevelTree {
 public:
  explicit LevelTree(std::size_t positions) {
    while (leaves_ < positions) leaves_ *= 2;
    added_.assign(2 * leaves_, 0);
    // Positions beyond the last never are the highest.
    highest_.assign(2 * leaves_, 0);
  }

  // Adds to positions first..last.
  void add(Position first, Position last, Bytes bytes) {
    if (first > last || bytes == 0) return;
    std::size_t left = static_cast<std::size_t>(first) + leaves_;
    std::size_t right = static_cast<std::size_t>(last) + leaves_;
    const std::size_t left_leaf = left;
    const std::size_t right_leaf = right;
    for (++right; left < right; left /= 2, right /= 2) {
      if (left % 2 == 1) apply(left++, bytes);
      if (right % 2 == 1) apply(--right, bytes);
    }
    refresh(left_leaf / 2);
    refresh(right_leaf / 2);
  }

  [[nodiscard]] Bytes highest() const { return highest_[1]; }

  // The first position with the highest level.
  [[nodiscard]] Position highest_position() const {
    std::size_t node = 1;
    while (node < leaves_) {
      node *= 2;
      if (highest_[node + 1] > highest_[node]) ++node;
    }
    return static_cast<Position>(node - leaves_);
  }

  [[nodiscard]] Bytes at(Position position) const {
    std::size_t node = static_cast<std::size_t>(position) + leaves_;
    Bytes level = highest_[node];
    for (node /= 2; node > 0; node /= 2) level += added_[node];
    return level;
  }

  // The highest level among positions first..last.
  [[nodiscard]] Bytes highest_in(Position first, Position last) const {
    return highest_in(1, 0, static_cast<Position>(leaves_) - 1, first, last);
  }

 private:
  void apply(std::size_t node, Bytes bytes) {
    highest_[node] += bytes;
    if (node < leaves_) added_[node] += bytes;
  }

  void refresh(std::size_t node) {
    for (; node > 0; node /= 2) {
      highest_[node] = std::max(highest_[2 * node], highest_[2 * node + 1]) + added_[node];
    }
  }

  [[nodiscard]] Bytes highest_in(std::size_t node, Position begin, Position end, Position first,
                                 Position last) const {
    if (first <= begin && end <= last) return highest_[node];
    const Position middle = begin + (end - begin) / 2;
    if (last <= middle) return highest_in(2 * node, begin, middle, first, last) + added_[node];
    if (first > middle) {
      return highest_in(2 * node + 1, middle + 1, end, first, last) + added_[node];
    }
    return std::max(highest_in(2 * node, begin, middle, first, last),
                    highest_in(2 * node + 1, middle + 1, end, first, last)) +
           added_[node];
  }

  std::size_t leaves_ = 1;
  std::vector<Bytes> added_;
  std::vector<Bytes> highest_;
};

}  // namespace tidemark::tide
