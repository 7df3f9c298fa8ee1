// Minimum cuts by Dinic's algorithm, with whole capacities.
#pragma once

#include <cstdint>
#include <vector>

namespace tidemark::tide {

class MinCut {
 public:
  static constexpr std::int64_t unlimited = std::int64_t{1} << 62;

  explicit MinCut(std::size_t nodes) : first_(nodes, -1) {}

  // Returns the edge's number, for set_capacity().
  std::size_t add_edge(std::size_t from, std::size_t to, std::int64_t capacity);
  void set_capacity(std::size_t edge, std::int64_t capacity) { capacity_[edge] = capacity; }

  // The capacity of the least cut, or `unlimited` if every cut has an unlimited edge. May be asked
  // again after changes of capacities.
  [[nodiscard]] std::int64_t solve(std::size_t source, std::size_t sink);
  // Of the last cut: whether the node lies on the source's side.
  [[nodiscard]] bool is_on_source_side(std::size_t node) const { return level_[node] >= 0; }

 private:
  [[nodiscard]] bool find_levels(std::size_t source, std::size_t sink);
  [[nodiscard]] std::int64_t push(std::size_t source, std::size_t sink);

  std::vector<std::int32_t> first_;  // by node: its first edge
  std::vector<std::int32_t> next_;   // by edge
  std::vector<std::int32_t> to_;
  std::vector<std::int64_t> capacity_;
  std::vector<std::int64_t> rest_;
  std::vector<std::int32_t> level_;
  std::vector<std::int32_t> current_;
};

}  // namespace tidemark::tide
