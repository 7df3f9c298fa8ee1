#include "tidemark/placement.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "placement_instance.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

// The least height over every order in which the buffers can be dropped: one of them makes an
// optimal placement, since some optimal one has each buffer resting on others or the ground.
Bytes least_height(const std::vector<Lifetime>& lifetimes, std::vector<Bytes>& offsets,
                   std::vector<char>& is_placed, Bytes height) {
  Bytes least = std::numeric_limits<Bytes>::max();
  bool is_complete = true;
  for (std::size_t next = 0; next < lifetimes.size(); ++next) {
    if (is_placed[next] != 0) continue;
    is_complete = false;
    Bytes offset = 0;
    for (std::size_t other = 0; other < lifetimes.size(); ++other) {
      const bool live_together = lifetimes[other].begin < lifetimes[next].end &&
                                 lifetimes[next].begin < lifetimes[other].end;
      if (is_placed[other] == 0 || !live_together) continue;
      offset = std::max(offset, offsets[other] + lifetimes[other].bytes);
    }
    offsets[next] = offset;
    is_placed[next] = 1;
    least = std::min(least, least_height(lifetimes, offsets, is_placed,
                                         std::max(height, offset + lifetimes[next].bytes)));
    is_placed[next] = 0;
  }
  return is_complete ? height : least;
}

std::vector<Lifetime> random_lifetimes(std::uint32_t seed, std::size_t count, int times) {
  std::mt19937 random(seed);
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < count; ++i) {
    const auto begin = static_cast<std::int64_t>(random() % static_cast<unsigned>(times));
    const auto length = static_cast<std::int64_t>(1 + random() % static_cast<unsigned>(times / 2));
    lifetimes.push_back({begin, begin + length, static_cast<Bytes>(1 + random() % 6)});
  }
  return lifetimes;
}

TEST_CASE("the example of minimalloc's description fits its capacity", "[placement]") {
  const std::vector<Lifetime> lifetimes{{0, 3, 4}, {3, 9, 4}, {0, 9, 4}, {9, 21, 4}, {0, 21, 4}};
  CHECK(placement_lower_bound(lifetimes) == 12);
  const PlacementAnswer answer = place_within(lifetimes, 12);
  REQUIRE(answer.verdict == PlacementVerdict::placed);
  CHECK(check_placement(lifetimes, answer.placement).empty());
  CHECK(answer.placement.height == 12);
  CHECK(place_within(lifetimes, 11).verdict == PlacementVerdict::impossible);
}

TEST_CASE("a placement may have to be higher than what is alive at any moment", "[placement]") {
  // a and c each lie beside 3 bytes once, so within 4 bytes one is at the bottom and one at the
  // top. Beside a and 2 bytes, b is next to a or opposite to it; beside c likewise: never both.
  const std::vector<Lifetime> lifetimes{{0, 3, 1}, {0, 1, 3}, {1, 4, 1}, {1, 2, 2},
                                        {2, 5, 1}, {3, 4, 2}, {4, 5, 3}};
  std::vector<Bytes> offsets(lifetimes.size(), 0);
  std::vector<char> is_placed(lifetimes.size(), 0);
  CHECK(placement_lower_bound(lifetimes) == 4);
  CHECK(least_height(lifetimes, offsets, is_placed, 0) == 5);
  CHECK(place_within(lifetimes, 4).verdict == PlacementVerdict::impossible);
  CHECK(place(lifetimes).height == 5);
}

TEST_CASE("search agrees with every order of dropping the buffers", "[placement][property]") {
  for (std::uint32_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    const auto lifetimes = random_lifetimes(seed, 3 + seed % 5, 4 + static_cast<int>(seed % 5));
    std::vector<Bytes> offsets(lifetimes.size(), 0);
    std::vector<char> is_placed(lifetimes.size(), 0);
    const Bytes least = least_height(lifetimes, offsets, is_placed, 0);
    const PlacementAnswer at = place_within(lifetimes, least);
    REQUIRE(at.verdict == PlacementVerdict::placed);
    CHECK(check_placement(lifetimes, at.placement).empty());
    CHECK(at.placement.height == least);
    CHECK(place_within(lifetimes, least - 1).verdict == PlacementVerdict::impossible);
    const Placement placed = place(lifetimes);
    CHECK(check_placement(lifetimes, placed).empty());
    CHECK(placed.height == least);
  }
}

TEST_CASE("the judge of placements finds each broken rule", "[placement]") {
  const std::vector<Lifetime> lifetimes{{0, 2, 4}, {1, 3, 5}, {2, 4, 4}};
  const Placement sound{.offsets = {0, 4, 0}, .height = 9};
  CHECK(check_placement(lifetimes, sound).empty());
  CHECK(check_placement(lifetimes, {.offsets = {0, 3, 0}, .height = 8}).size() == 2);
  CHECK(check_placement(lifetimes, {.offsets = {0, 4}, .height = 9}).size() == 1);
  CHECK(check_placement(lifetimes, {.offsets = {-1, 4, 0}, .height = 9}).size() == 1);
  CHECK(check_placement(lifetimes, {.offsets = {0, 4, 0}, .height = 10}).size() == 1);
}

TEST_CASE("nothing, empty lifetimes and empty bytes take no room", "[placement]") {
  CHECK(place({}).height == 0);
  const std::vector<Lifetime> lifetimes{{0, 0, 5}, {0, 3, 0}, {1, 2, 7}};
  const Placement placed = place(lifetimes);
  CHECK(placed.height == 7);
  CHECK(check_placement(lifetimes, placed).empty());
}

TEST_CASE("a stopped or exhausted search says that it does not know", "[placement]") {
  const auto lifetimes = random_lifetimes(5, 60, 30);
  const Bytes bound = placement_lower_bound(lifetimes);
  CHECK(place_within(lifetimes, bound, {.tries = 3, .should_stop = {}}).verdict ==
        PlacementVerdict::undecided);
  CHECK(
      place_within(lifetimes, bound, {.tries = 1000, .should_stop = [] { return true; }}).verdict ==
      PlacementVerdict::undecided);
}

TEST_CASE("a schedule's lifetimes load the device as the simulator says", "[placement]") {
  const test::BlockChain chain(5);
  Setting setting;
  for (const auto& k : {std::optional<std::int32_t>(), std::optional<std::int32_t>(2)}) {
    setting.number_checkpoints = k;
    const auto built = build_schedule(chain.trace(), find_blocks(chain.trace()), setting);
    const Schedule& schedule = std::get<BuiltSchedule>(built).schedule;
    const StepFigures figures = simulate(chain.trace(), schedule).figures;
    const auto lifetimes = device_lifetimes(chain.trace(), schedule, 1);
    CHECK(placement_lower_bound(lifetimes) == figures.live_peak_bytes - figures.static_bytes);
    const Placement placed = place(lifetimes);
    CHECK(check_placement(lifetimes, placed).empty());
    CHECK(placement_lower_bound(device_lifetimes(chain.trace(), schedule, 64)) % 64 == 0);
  }
}

// The working folder is tests/.
TEST_CASE("minimalloc's eleven instances fit their capacity", "[placement][minimalloc]") {
  constexpr Bytes capacity = 1'048'576;
  const fs::path folder = "../../shared/data/minimalloc";
  if (!fs::exists(folder)) {
    WARN("minimalloc's instances are not at " + folder.string() + ": nothing was checked");
    return;
  }
  for (const char letter : std::string("ABCDEFGHIJK")) {
    CAPTURE(letter);
    const auto lifetimes =
        test::read_placement_instance(folder / (std::string(1, letter) + ".1048576.csv"));
    REQUIRE(lifetimes.size() > 100);
    const PlacementAnswer answer = place_within(lifetimes, capacity);
    REQUIRE(answer.verdict == PlacementVerdict::placed);
    CHECK(check_placement(lifetimes, answer.placement).empty());
    CHECK(answer.placement.height <= capacity);
  }
}

}  // namespace
}  // namespace tidemark
