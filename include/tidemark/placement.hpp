// Placement: fixed offsets in one arena for everything that a schedule makes, so that nothing
// needs an allocator. Lifetimes are known, so it is strip packing with fixed horizontal positions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// Bytes that are needed from `begin` up to, but not at, `end`.
struct Lifetime {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  Bytes bytes = 0;
  bool operator==(const Lifetime&) const = default;
};

struct Placement {
  std::vector<Bytes> offsets;  // one for each lifetime
  Bytes height = 0;            // bytes of the arena
  bool operator==(const Placement&) const = default;
};

// The largest sum alive at one moment: no placement is lower.
[[nodiscard]] Bytes placement_lower_bound(const std::vector<Lifetime>& lifetimes);

// The judge of placements, sharing no code with whoever makes them. One sentence for each broken
// rule: an offset for each lifetime and none below zero, no two that live together overlap, the
// height is where the highest ends.
[[nodiscard]] std::vector<std::string> check_placement(const std::vector<Lifetime>& lifetimes,
                                                       const Placement& placement);

enum class PlacementVerdict : std::uint8_t { placed, impossible, undecided };

struct PlacementAnswer {
  PlacementVerdict verdict = PlacementVerdict::undecided;
  Placement placement;  // where placed
};

struct PlacementEffort {
  std::int64_t tries = 4'000'000;  // single placements tried, over all restarts
  // Asked every few thousand tries; true: stop. Empty: never.
  std::function<bool()> should_stop;
};

// Exhaustive search for a placement within `capacity`: impossible is proven. Counts its work, so
// the same input gives the same answer.
[[nodiscard]] PlacementAnswer place_within(const std::vector<Lifetime>& lifetimes, Bytes capacity,
                                           const PlacementEffort& effort = {});

// The lowest placement found: first fit in several orders, then search from the lower bound up.
[[nodiscard]] Placement place(const std::vector<Lifetime>& lifetimes,
                              const PlacementEffort& effort = {});

// Every instance that a schedule makes on the device and every operator's scratch, in steps of the
// schedule; static memory apart. Bytes are rounded up to multiples of `alignment`.
[[nodiscard]] std::vector<Lifetime> device_lifetimes(const StepTrace& trace,
                                                     const Schedule& schedule, Bytes alignment);

}  // namespace tidemark
