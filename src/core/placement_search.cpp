#include "placement_search.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace tidemark {

namespace {
constexpr Bytes unreachable = std::numeric_limits<Bytes>::max();
}

PlacementProblem::PlacementProblem(const std::vector<Lifetime>& lifetimes) {
  std::vector<std::int64_t> times;
  for (const Lifetime& lifetime : lifetimes) {
    times.push_back(lifetime.begin);
    times.push_back(lifetime.end);
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  const auto moment = [&](std::int64_t time) {
    return static_cast<std::int32_t>(std::lower_bound(times.begin(), times.end(), time) -
                                     times.begin());
  };
  for (const Lifetime& lifetime : lifetimes) {
    buffers.push_back({.first = moment(lifetime.begin),
                       .last = moment(lifetime.end),
                       .bytes = lifetime.bytes,
                       .width = lifetime.end - lifetime.begin});
  }
  moments = std::max<std::int32_t>(static_cast<std::int32_t>(times.size()) - 1, 0);
}

PlacementSearch::PlacementSearch(const PlacementProblem& problem,
                                 const std::vector<std::int32_t>& order, Bytes capacity,
                                 std::vector<double>& weights)
    : capacity_(capacity),
      weights_(weights),
      original_(order),
      twin_(order.size(), -1),
      top_(order.size(), 0),
      least_(order.size(), 0),
      offsets_(order.size(), 0),
      is_placed_(order.size(), 0),
      crossing_(static_cast<std::size_t>(problem.moments), 0),
      level_(static_cast<std::size_t>(problem.moments), 0) {
  for (const std::int32_t position : order) {
    buffers_.push_back(problem.buffers[static_cast<std::size_t>(position)]);
    for (std::int32_t m = buffers_.back().first; m + 1 < buffers_.back().last; ++m) {
      ++crossing_[static_cast<std::size_t>(m)];
    }
  }
  find_overlaps();
}

void PlacementSearch::find_overlaps() {
  overlaps_.resize(buffers_.size());
  for (std::size_t a = 0; a < buffers_.size(); ++a) {
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      if (a == b || buffers_[a].first >= buffers_[b].last || buffers_[b].first >= buffers_[a].last)
        continue;
      overlaps_[a].push_back(static_cast<Rank>(b));
      if (b < a && buffers_[a] == buffers_[b]) twin_[a] = static_cast<Rank>(b);
    }
  }
}

std::vector<Bytes> PlacementSearch::offsets() const {
  std::vector<Bytes> offsets(original_.size());
  for (std::size_t rank = 0; rank < original_.size(); ++rank) {
    offsets[static_cast<std::size_t>(original_[rank])] = offsets_[rank];
  }
  return offsets;
}

PlacementVerdict PlacementSearch::run(std::int64_t most_tries) {
  most_tries_ = most_tries;
  Part all(buffers_.size());
  std::iota(all.begin(), all.end(), 0);
  if (!fits(all, 0, static_cast<std::int32_t>(level_.size()))) return PlacementVerdict::impossible;
  for (Part& part : components(std::move(all))) {
    const PlacementVerdict verdict = search(std::move(part), 0, 0);
    if (verdict != PlacementVerdict::placed) return verdict;
  }
  return PlacementVerdict::placed;
}

bool PlacementSearch::precedes(Rank a, Rank b) const {
  const Bytes of_a = least_[static_cast<std::size_t>(a)];
  const Bytes of_b = least_[static_cast<std::size_t>(b)];
  return of_a != of_b ? of_a < of_b : a < b;
}

void PlacementSearch::sort_nearly_sorted(Part& part) const {
  for (std::size_t i = 1; i < part.size(); ++i) {
    const Rank moved = part[i];
    std::size_t at = i;
    for (; at > 0 && precedes(moved, part[at - 1]); --at) part[at] = part[at - 1];
    part[at] = moved;
  }
}

// Parts that share no moment, the small ones first; each sorted by least offset and rank.
std::vector<PlacementSearch::Part> PlacementSearch::components(Part part) const {
  const auto first = [&](Rank rank) { return buffers_[static_cast<std::size_t>(rank)].first; };
  std::sort(part.begin(), part.end(),
            [&](Rank a, Rank b) { return first(a) != first(b) ? first(a) < first(b) : a < b; });
  std::vector<Part> parts;
  std::int32_t end = -1;
  for (const Rank rank : part) {
    if (parts.empty() || first(rank) >= end) parts.emplace_back();
    parts.back().push_back(rank);
    end = std::max(end, buffers_[static_cast<std::size_t>(rank)].last);
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.size() < b.size(); });
  for (Part& each : parts) {
    std::sort(each.begin(), each.end(), [&](Rank a, Rank b) { return precedes(a, b); });
  }
  return parts;
}

// Each moment as one machine: what lives then is stacked in the order of its least offsets.
bool PlacementSearch::fits(const Part& part, std::int32_t first, std::int32_t last) {
  std::fill(level_.begin() + first, level_.begin() + last, 0);
  Bytes* const level = level_.data();
  for (const Rank rank : part) {
    const auto r = static_cast<std::size_t>(rank);
    const Bytes least = least_[r];
    const Bytes bytes = buffers_[r].bytes;
    const std::int32_t end = std::min(buffers_[r].last, last);
    for (std::int32_t m = std::max(buffers_[r].first, first); m < end; ++m) {
      level[m] = (level[m] < least ? least : level[m]) + bytes;
    }
  }
  bool is_within = true;
  for (std::int32_t m = first; m < last; ++m) {
    if (level[m] <= capacity_) continue;
    weights_[static_cast<std::size_t>(m)] += 1;
    is_within = false;
  }
  return is_within;
}

// Where it ends up at least when something that is not placed yet comes below it.
Bytes PlacementSearch::least_support(Rank rank, Bytes offset) const {
  Bytes least = unreachable;
  for (const Rank other : overlaps_[static_cast<std::size_t>(rank)]) {
    const auto o = static_cast<std::size_t>(other);
    if (is_placed_[o] != 0) continue;
    least = std::min(least, std::max(least_[o], offset) + buffers_[o].bytes);
  }
  return least;
}

// What may come next in the order of offsets: on top of placed ones, and not above a gap into which
// another one would fit.
PlacementSearch::Part PlacementSearch::candidates(const Part& part, Bytes offset, Rank rank) const {
  Bytes lowest_end = unreachable;
  for (const Rank each : part) {
    const auto r = static_cast<std::size_t>(each);
    lowest_end = std::min(lowest_end, top_[r] + buffers_[r].bytes);
  }
  Part chosen;
  for (const Rank each : part) {
    const auto r = static_cast<std::size_t>(each);
    if (least_[r] >= lowest_end) break;
    const bool comes_after = top_[r] > offset || (top_[r] == offset && each >= rank);
    const bool waits_for_twin =
        twin_[r] >= 0 && is_placed_[static_cast<std::size_t>(twin_[r])] == 0;
    if (top_[r] == least_[r] && comes_after && !waits_for_twin) chosen.push_back(each);
  }
  return chosen;
}

PlacementVerdict PlacementSearch::search(Part part, Bytes offset, Rank rank) {
  if (part.empty()) return PlacementVerdict::placed;
  std::vector<std::pair<Rank, Bytes>> passed;
  PlacementVerdict verdict = PlacementVerdict::impossible;
  for (const Rank next : candidates(part, offset, rank)) {
    const Bytes at = top_[static_cast<std::size_t>(next)];
    bool is_last = false;
    verdict = try_one(part, next, at, is_last);
    if (verdict != PlacementVerdict::impossible || is_last) break;
    passed.emplace_back(next, least_[static_cast<std::size_t>(next)]);
    if (!passes_over(part, next, at)) break;
  }
  std::for_each(passed.rbegin(), passed.rend(), [&](const auto& later) {
    least_[static_cast<std::size_t>(later.first)] = later.second;
  });
  return verdict;
}

// False: no solution leaves it for later.
bool PlacementSearch::passes_over(Part& part, Rank rank, Bytes offset) {
  const auto r = static_cast<std::size_t>(rank);
  const Bytes support = least_support(rank, offset);
  if (support == unreachable || support + buffers_[r].bytes > capacity_) return false;
  if (support <= least_[r]) return true;
  least_[r] = support;
  sort_nearly_sorted(part);
  return fits(part, buffers_[r].first, buffers_[r].last);
}

// `is_last`: nothing lies above it, so that no other choice mends what fails below it.
PlacementVerdict PlacementSearch::try_one(const Part& part, Rank rank, Bytes offset,
                                          bool& is_last) {
  if (++tries_ > most_tries_) return PlacementVerdict::undecided;
  const auto r = static_cast<std::size_t>(rank);
  const Bytes end = offset + buffers_[r].bytes;
  std::int32_t first = buffers_[r].first;
  std::int32_t last = buffers_[r].last;
  is_placed_[r] = 1;
  is_last = true;
  std::vector<Raised> raised;
  for (const Rank other : overlaps_[r]) {
    const auto o = static_cast<std::size_t>(other);
    if (is_placed_[o] != 0) continue;
    is_last = false;
    if (top_[o] >= end) continue;
    raised.push_back({.rank = other, .top = top_[o], .least = least_[o]});
    top_[o] = end;
    least_[o] = std::max(least_[o], end);
    first = std::min(first, buffers_[o].first);
    last = std::max(last, buffers_[o].last);
  }
  Part rest;
  rest.reserve(part.size());
  std::copy_if(part.begin(), part.end(), std::back_inserter(rest),
               [&](Rank each) { return each != rank; });
  sort_nearly_sorted(rest);
  PlacementVerdict verdict = PlacementVerdict::impossible;
  if (fits(rest, first, last)) verdict = descend(rest, rank, offset);
  std::for_each(raised.rbegin(), raised.rend(), [&](const auto& each) {
    top_[static_cast<std::size_t>(each.rank)] = each.top;
    least_[static_cast<std::size_t>(each.rank)] = each.least;
  });
  is_placed_[r] = 0;
  if (verdict == PlacementVerdict::placed) offsets_[r] = offset;
  return verdict;
}

PlacementVerdict PlacementSearch::descend(const Part& rest, Rank placed, Bytes offset) {
  const PlacementProblem::Buffer& buffer = buffers_[static_cast<std::size_t>(placed)];
  bool is_cut = false;
  for (std::int32_t m = buffer.first; m + 1 < buffer.last; ++m) {
    is_cut = --crossing_[static_cast<std::size_t>(m)] == 0 || is_cut;
  }
  PlacementVerdict verdict = PlacementVerdict::placed;
  if (!is_cut) {
    verdict = search(rest, offset, placed);
  } else {
    for (Part& part : components(rest)) {
      verdict = search(std::move(part), offset, placed);
      if (verdict != PlacementVerdict::placed) break;
    }
  }
  for (std::int32_t m = buffer.first; m + 1 < buffer.last; ++m) {
    ++crossing_[static_cast<std::size_t>(m)];
  }
  return verdict;
}

}  // namespace tidemark
