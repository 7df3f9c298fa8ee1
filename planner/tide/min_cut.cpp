#include "min_cut.hpp"

#include <algorithm>

#include "at.hpp"

namespace tidemark::tide {

std::size_t MinCut::add_edge(std::size_t from, std::size_t to, std::int64_t capacity) {
  const std::size_t edge = to_.size();
  to_.push_back(static_cast<std::int32_t>(to));
  next_.push_back(first_[from]);
  first_[from] = static_cast<std::int32_t>(edge);
  capacity_.push_back(capacity);
  to_.push_back(static_cast<std::int32_t>(from));
  next_.push_back(first_[to]);
  first_[to] = static_cast<std::int32_t>(edge + 1);
  capacity_.push_back(0);
  return edge;
}

bool MinCut::find_levels(std::size_t source, std::size_t sink) {
  level_.assign(first_.size(), -1);
  level_[source] = 0;
  std::vector<std::size_t> queue{source};
  for (std::size_t q = 0; q < queue.size(); ++q) {
    for (std::int32_t e = first_[queue[q]]; e >= 0; e = next_[at(e)]) {
      const std::size_t to = at(to_[at(e)]);
      if (rest_[at(e)] == 0 || level_[to] >= 0) continue;
      level_[to] = level_[queue[q]] + 1;
      queue.push_back(to);
    }
  }
  return level_[sink] >= 0;
}

// A blocking flow, path by path, without recursion: graphs are as deep as the step is long.
std::int64_t MinCut::push(std::size_t source, std::size_t sink) {
  std::int64_t total = 0;
  std::vector<std::size_t> path;  // edges
  std::size_t node = source;
  while (true) {
    if (node == sink) {
      std::int64_t flow = unlimited;
      for (const std::size_t e : path) flow = std::min(flow, rest_[e]);
      total += flow;
      if (total >= unlimited) return unlimited;
      std::size_t keep = path.size();
      for (std::size_t i = path.size(); i-- > 0;) {
        rest_[path[i]] -= flow;
        rest_[path[i] ^ 1U] += flow;
        if (rest_[path[i]] == 0) keep = i;
      }
      node = at(to_[path[keep] ^ 1U]);
      path.resize(keep);
      continue;
    }
    std::int32_t& e = current_[node];
    while (e >= 0 && (rest_[at(e)] == 0 || level_[at(to_[at(e)])] != level_[node] + 1)) {
      e = next_[at(e)];
    }
    if (e >= 0) {
      path.push_back(at(e));
      node = at(to_[at(e)]);
      continue;
    }
    if (path.empty()) return total;
    const std::size_t back = path.back();
    path.pop_back();
    node = at(to_[back ^ 1U]);
    current_[node] = next_[at(current_[node])];
  }
}

std::int64_t MinCut::solve(std::size_t source, std::size_t sink) {
  rest_ = capacity_;
  std::int64_t total = 0;
  while (find_levels(source, sink)) {
    current_ = first_;
    const std::int64_t pushed = push(source, sink);
    if (pushed >= unlimited - total) return unlimited;
    total += pushed;
  }
  return total;
}

}  // namespace tidemark::tide
