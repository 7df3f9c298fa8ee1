#include "crowded_moments.hpp"

#include <algorithm>

#include "retention.hpp"

namespace tidemark::tide {

std::vector<Position> crowded_moments(const StepGraph& graph, Bytes budget) {
  constexpr Position stretches = 12;
  const Retention everything(graph);
  std::vector<Position> moments;
  for (Position s = 0; s < stretches; ++s) {
    const Position begin = s * graph.end() / stretches;
    const Position end = (s + 1) * graph.end() / stretches;
    if (begin >= end) continue;
    Position highest = begin;
    for (Position p = begin; p < end; ++p) {
      if (everything.level(p) > everything.level(highest)) highest = p;
    }
    if (everything.level(highest) > budget) moments.push_back(highest);
  }
  std::stable_sort(moments.begin(), moments.end(), [&](Position a, Position b) {
    return everything.level(a) > everything.level(b);
  });
  return moments;
}

}  // namespace tidemark::tide
