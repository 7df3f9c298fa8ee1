// Restarts of the search under changing orders, first fit, and the judge of placements.
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "placement_search.hpp"
#include "tidemark/placement.hpp"

namespace tidemark {

namespace {

// What an order looks at, one after the other, the larger first; ties go by position.
enum class Trait : std::uint8_t { width, area, load, bytes, weight_sum, weight_peak };

struct Order {
  std::array<Trait, 3> traits;
};

// One way to search, restarted with more tries each time. Weights make another order of every
// restart, so these are many and short. A fixed order begins anew where it began before, so its
// restarts have to be few.
struct Strategy {
  Order order;
  double growth;  // of a restart's tries, from one to the next
};
constexpr std::array<Strategy, 4> strategies{{
    {{{Trait::weight_sum, Trait::width, Trait::area}}, 1.15},
    {{{Trait::weight_peak, Trait::width, Trait::area}}, 1.15},
    {{{Trait::load, Trait::width, Trait::area}}, 3},
    {{{Trait::area, Trait::load, Trait::width}}, 3},
}};
constexpr std::array<Order, 4> first_fit_orders{{
    {{Trait::bytes, Trait::width, Trait::area}},
    {{Trait::area, Trait::bytes, Trait::width}},
    {{Trait::width, Trait::bytes, Trait::area}},
    {{Trait::load, Trait::bytes, Trait::width}},
}};
constexpr double weight_decay = 0.5;  // of the moments' weights, from one restart to the next
constexpr std::size_t searchable_buffers = 2000;
constexpr std::int64_t most_bisections = 4;

class Ranking {
 public:
  explicit Ranking(const PlacementProblem& problem)
      : problem_(problem), load_(static_cast<std::size_t>(problem.moments), 0) {
    for (const auto& buffer : problem.buffers) {
      for (std::int32_t m = buffer.first; m < buffer.last; ++m) {
        load_[static_cast<std::size_t>(m)] += static_cast<double>(buffer.bytes);
      }
    }
  }

  [[nodiscard]] std::vector<std::int32_t> by(const Order& order,
                                             const std::vector<double>& weights) const {
    std::vector<std::array<double, 3>> keys;
    for (const auto& buffer : problem_.buffers) {
      keys.push_back({value(order.traits[0], buffer, weights),
                      value(order.traits[1], buffer, weights),
                      value(order.traits[2], buffer, weights)});
    }
    std::vector<std::int32_t> ranked(keys.size());
    std::iota(ranked.begin(), ranked.end(), 0);
    std::stable_sort(ranked.begin(), ranked.end(), [&](std::int32_t a, std::int32_t b) {
      return keys[static_cast<std::size_t>(a)] > keys[static_cast<std::size_t>(b)];
    });
    return ranked;
  }

 private:
  static double peak(const std::vector<double>& of, const PlacementProblem::Buffer& buffer) {
    return *std::max_element(of.begin() + buffer.first, of.begin() + buffer.last);
  }

  [[nodiscard]] double value(Trait trait, const PlacementProblem::Buffer& buffer,
                             const std::vector<double>& weights) const {
    const auto bytes = static_cast<double>(buffer.bytes);
    switch (trait) {
      case Trait::width:
        return static_cast<double>(buffer.width);
      case Trait::area:
        return bytes * static_cast<double>(buffer.width);
      case Trait::load:
        return peak(load_, buffer);
      case Trait::bytes:
        return bytes;
      case Trait::weight_peak:
        return peak(weights, buffer);
      case Trait::weight_sum:
        break;
    }
    return bytes *
           std::accumulate(weights.begin() + buffer.first, weights.begin() + buffer.last, 0.0);
  }

  const PlacementProblem& problem_;
  std::vector<double> load_;
};

// Empty lifetimes and empty bytes lie anywhere: they are left out and get offset zero.
bool takes_room(const Lifetime& lifetime) {
  return lifetime.begin < lifetime.end && lifetime.bytes > 0;
}

Placement with_height(const std::vector<Lifetime>& lifetimes, std::vector<Bytes> offsets) {
  Placement placement{.offsets = std::move(offsets), .height = 0};
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    if (!takes_room(lifetimes[i])) continue;
    placement.height = std::max(placement.height, placement.offsets[i] + lifetimes[i].bytes);
  }
  return placement;
}

struct Roomy {
  std::vector<std::size_t> positions;
  std::vector<Lifetime> lifetimes;
};

Roomy only_roomy(const std::vector<Lifetime>& lifetimes) {
  Roomy roomy;
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    if (!takes_room(lifetimes[i])) continue;
    roomy.positions.push_back(i);
    roomy.lifetimes.push_back(lifetimes[i]);
  }
  return roomy;
}

std::vector<Bytes> spread(const Roomy& roomy, const std::vector<Bytes>& offsets, std::size_t size) {
  std::vector<Bytes> all(size, 0);
  for (std::size_t i = 0; i < offsets.size(); ++i) all[roomy.positions[i]] = offsets[i];
  return all;
}

// What a strategy had of the effort, and what its next restart may take; the one that would have
// had least comes next.
struct Share {
  std::int64_t spent = 0;
  double limit = 0;
  bool operator<(const Share& other) const {
    return static_cast<double>(spent) + limit < static_cast<double>(other.spent) + other.limit;
  }
};

// The lowest gap among what is placed already, one after the other.
std::vector<Bytes> first_fit(const PlacementProblem& problem,
                             const std::vector<std::int32_t>& order) {
  std::vector<Bytes> offsets(problem.buffers.size(), 0);
  std::vector<std::pair<Bytes, Bytes>> taken;
  for (std::size_t placed = 0; placed < order.size(); ++placed) {
    const auto position = static_cast<std::size_t>(order[placed]);
    const auto& buffer = problem.buffers[position];
    taken.clear();
    for (std::size_t other = 0; other < placed; ++other) {
      const auto o = static_cast<std::size_t>(order[other]);
      const auto& below = problem.buffers[o];
      if (below.first >= buffer.last || buffer.first >= below.last) continue;
      taken.emplace_back(offsets[o], offsets[o] + below.bytes);
    }
    std::sort(taken.begin(), taken.end());
    Bytes offset = 0;
    for (const auto& [begin, end] : taken) {
      if (begin >= offset + buffer.bytes) break;
      offset = std::max(offset, end);
    }
    offsets[position] = offset;
  }
  return offsets;
}

}  // namespace

Bytes placement_lower_bound(const std::vector<Lifetime>& lifetimes) {
  std::vector<std::pair<std::int64_t, Bytes>> changes;
  for (const Lifetime& lifetime : lifetimes) {
    if (!takes_room(lifetime)) continue;
    changes.emplace_back(lifetime.begin, lifetime.bytes);
    changes.emplace_back(lifetime.end, -lifetime.bytes);
  }
  std::sort(changes.begin(), changes.end());  // at one time, ends come first
  Bytes alive = 0;
  Bytes most = 0;
  for (const auto& [time, change] : changes) {
    alive += change;
    most = std::max(most, alive);
  }
  return most;
}

PlacementAnswer place_within(const std::vector<Lifetime>& lifetimes, Bytes capacity,
                             const PlacementEffort& effort) {
  if (placement_lower_bound(lifetimes) > capacity) {
    return {.verdict = PlacementVerdict::impossible, .placement = {}};
  }
  const Roomy roomy = only_roomy(lifetimes);
  const PlacementProblem problem(roomy.lifetimes);
  const Ranking ranking(problem);
  std::vector<double> weights(static_cast<std::size_t>(problem.moments), 0);
  std::array<Share, strategies.size()> shares{};
  for (Share& share : shares) {
    share.limit = static_cast<double>(std::max<std::size_t>(problem.buffers.size(), 8));
  }
  for (std::int64_t spent = 0; spent < effort.tries;) {
    if (effort.should_stop && effort.should_stop()) return {};
    Share& share = *std::min_element(shares.begin(), shares.end());
    const Strategy& strategy = strategies.at(static_cast<std::size_t>(&share - shares.data()));
    PlacementSearch search(problem, ranking.by(strategy.order, weights), capacity, weights);
    const PlacementVerdict verdict =
        search.run(std::min(static_cast<std::int64_t>(share.limit), effort.tries - spent));
    if (verdict == PlacementVerdict::placed) {
      return {
          .verdict = verdict,
          .placement = with_height(lifetimes, spread(roomy, search.offsets(), lifetimes.size()))};
    }
    if (verdict == PlacementVerdict::impossible) return {.verdict = verdict, .placement = {}};
    spent += search.tries();
    share.spent += search.tries();
    share.limit *= strategy.growth;
    for (double& weight : weights) weight *= weight_decay;
  }
  return {};
}

Placement place(const std::vector<Lifetime>& lifetimes, const PlacementEffort& effort) {
  const Roomy roomy = only_roomy(lifetimes);
  const PlacementProblem problem(roomy.lifetimes);
  const Ranking ranking(problem);
  const std::vector<double> weights(static_cast<std::size_t>(problem.moments), 0);
  std::optional<Placement> best;
  for (const Order& order : first_fit_orders) {
    Placement found = with_height(
        lifetimes, spread(roomy, first_fit(problem, ranking.by(order, weights)), lifetimes.size()));
    if (!best || found.height < best->height) best = std::move(found);
  }
  Bytes lowest = placement_lower_bound(lifetimes);
  if (problem.buffers.size() > searchable_buffers) return std::move(*best);
  // The lower bound first, which is most often reached; then between what failed and the best.
  Bytes capacity = lowest;
  PlacementEffort share = effort;
  share.tries = std::max<std::int64_t>(effort.tries / (most_bisections + 1), 1);
  for (std::int64_t round = 0; round <= most_bisections && lowest < best->height; ++round) {
    PlacementAnswer answer = place_within(lifetimes, capacity, share);
    if (answer.verdict == PlacementVerdict::placed) {
      best = std::move(answer.placement);
    } else {
      lowest = capacity + 1;
    }
    capacity = lowest + (best->height - lowest) / 2;
  }
  return std::move(*best);
}

std::vector<std::string> check_placement(const std::vector<Lifetime>& lifetimes,
                                         const Placement& placement) {
  if (placement.offsets.size() != lifetimes.size()) {
    return {"there are " + std::to_string(placement.offsets.size()) + " offsets for " +
            std::to_string(lifetimes.size()) + " lifetimes"};
  }
  std::vector<std::string> broken;
  Bytes highest = 0;
  for (std::size_t a = 0; a < lifetimes.size(); ++a) {
    const Bytes begin = placement.offsets[a];
    const Bytes end = begin + lifetimes[a].bytes;
    if (begin < 0) broken.push_back("lifetime " + std::to_string(a) + " lies below zero");
    const bool is_empty = lifetimes[a].begin >= lifetimes[a].end || lifetimes[a].bytes == 0;
    if (is_empty) continue;
    highest = std::max(highest, end);
    for (std::size_t b = 0; b < a; ++b) {
      const bool live_together =
          lifetimes[a].begin < lifetimes[b].end && lifetimes[b].begin < lifetimes[a].end;
      const bool share_bytes =
          begin < placement.offsets[b] + lifetimes[b].bytes && placement.offsets[b] < end;
      if (live_together && share_bytes) {
        broken.push_back("lifetimes " + std::to_string(b) + " and " + std::to_string(a) +
                         " overlap");
      }
    }
  }
  if (highest != placement.height) {
    broken.push_back("the height is " + std::to_string(placement.height) +
                     ", the highest ends at " + std::to_string(highest));
  }
  return broken;
}

}  // namespace tidemark
