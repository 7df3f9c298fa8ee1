#include "tidemark/explain.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "block_chain.hpp"
#include "kept_sweep.hpp"
#include "sample_sweep.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::KeptSweep;

const Lever* lever(const Explanation& told, const std::string& name) {
  const auto found = std::find_if(told.levers.begin(), told.levers.end(),
                                  [&](const Lever& each) { return each.name == name; });
  return found == told.levers.end() ? nullptr : &*found;
}

std::size_t row_of(const Sweep& sweep, const std::string& setting) {
  for (std::size_t row = 0; row < sweep.rows.size(); ++row) {
    if (describe(sweep.rows[row].setting) == setting) return row;
  }
  throw std::runtime_error("no row is " + setting);
}

TEST_CASE("the parts of a peak sum to it, and each counterfactual is a peak without", "[explain]") {
  const BlockChain chain(4);
  KeptSweep kept(chain.trace(), SweepAxes{});
  for (std::size_t row = 0; row < kept.sweep().rows.size(); ++row) {
    if (kept.sweep().rows[row].status == Status::invalid) continue;
    kept.chosen = row;
    const Explanation told = explain(kept);
    CHECK(told.peak_bytes == kept.sweep().rows[row].predicted->live_peak_bytes);
    Bytes sum = 0;
    for (const PeakPart& part : told.parts) {
      sum += part.bytes;
      REQUIRE(part.peak_without.has_value());
      CHECK(*part.peak_without <= told.peak_bytes);
      CHECK(*part.peak_without >= told.peak_bytes - part.bytes);
    }
    CHECK(sum == told.peak_bytes);
    Bytes held = 0;
    for (const PeakHolder& holder : told.holders) held += holder.bytes;
    if (told.holders.size() < 8) {
      CHECK(held == told.peak_bytes);
    } else {
      CHECK(held <= told.peak_bytes);  // only the largest are listed
    }
    for (const Lever& each : told.levers) {
      if (!each.row) continue;
      const Bytes other = kept.sweep().rows[*each.row].predicted->live_peak_bytes;
      CHECK(each.peak_bytes == other);
      CHECK((each.effect == Effect::lowers) == (other < told.peak_bytes));
      CHECK((each.effect == Effect::raises) == (other > told.peak_bytes));
    }
  }
}

// Worked by hand on the chain of four blocks. Without checkpointing the highest moment is the first
// down_backward: static 50, x0 to x3 (4 x 40), h0 to h3 (4 x 100), the loss 4, the incoming
// gradient 40 and the one that is made 100: 754.
TEST_CASE("the plain step's levers", "[explain]") {
  const BlockChain chain(4);
  KeptSweep kept(chain.trace(), SweepAxes{});
  kept.chosen = row_of(kept.sweep(), "none");
  const Explanation told = explain(kept);
  CHECK(told.peak_bytes == 754);
  REQUIRE(lever(told, "checkpointing") != nullptr);
  CHECK(lever(told, "checkpointing")->effect == Effect::lowers);
  Bytes least = told.peak_bytes;
  for (const char* count : {"1", "2", "4"}) {
    const SweepRow& row = kept.sweep().rows[row_of(kept.sweep(), count)];
    least = std::min(least, row.predicted->live_peak_bytes);
  }
  CHECK(lever(told, "checkpointing")->peak_bytes == least);
  CHECK(lever(told, "fewer checkpoints") == nullptr);
  CHECK(lever(told, "offload of checkpoints") == nullptr);
  const Lever* states = lever(told, "optimizer states smaller, sharded or offloaded");
  REQUIRE(states != nullptr);
  CHECK(states->effect == Effect::changes_nothing);
  CHECK(states->reason == "The recorded step has none.");
}

TEST_CASE("a switch is judged by the row that differs in it alone", "[explain]") {
  const BlockChain chain(4);
  KeptSweep kept(chain.trace(), SweepAxes{});
  kept.chosen = row_of(kept.sweep(), "4");
  const Explanation told = explain(kept);
  REQUIRE(lever(told, "offload of checkpoints") != nullptr);
  const std::size_t other = *lever(told, "offload of checkpoints")->row;
  CHECK(describe(kept.sweep().rows[other].setting).find("4, cpu ") == 0);
  CHECK(lever(told, "more checkpoints") == nullptr);
  REQUIRE(lever(told, "fewer checkpoints") != nullptr);
}

TEST_CASE("a switch that the sweep has not tried is bounded", "[explain]") {
  const BlockChain chain(4);
  SweepAxes axes;
  axes.cpu_checkpointing = {CpuCheckpointing::off};
  axes.partition_activations = {false};
  axes.contiguous_memory_optimization = {false};
  KeptSweep kept(chain.trace(), axes);
  kept.chosen = row_of(kept.sweep(), "4");
  const Explanation told = explain(kept);
  const auto held = std::find_if(told.parts.begin(), told.parts.end(), [](const PeakPart& part) {
    return part.term == Term::held_checkpoints;
  });
  REQUIRE(held != told.parts.end());
  for (const char* name : {"offload of checkpoints", "partitioning of checkpoints"}) {
    REQUIRE(lever(told, name) != nullptr);
    CHECK_FALSE(lever(told, name)->row.has_value());
    CHECK(lever(told, name)->effect == Effect::may_lower);
    CHECK(lever(told, name)->peak_bytes == held->peak_without);
  }
}

TEST_CASE("what the allocator takes above the live bytes is told, and what would lower it",
          "[explain]") {
  const BlockChain chain(4);
  KeptSweep kept(chain.trace(), SweepAxes{});
  kept.chosen = row_of(kept.sweep(), "4");
  CHECK_FALSE(explain(kept).allocator.has_value());
  const auto set = [&](std::size_t row, Bytes allocated, Bytes reserved) {
    StepFigures& figures = *kept.editable().rows[row].predicted;
    figures.allocated_peak_bytes = allocated;
    figures.reserved_peak_bytes = reserved;
  };
  set(*kept.chosen, 1024, 4096);
  set(row_of(kept.sweep(), "2"), 1024, 2048);
  SweepRow expandable = kept.sweep().rows[*kept.chosen];
  expandable.setting.alloc_conf = "expandable_segments:True";
  expandable.predicted->reserved_peak_bytes = 1536;
  kept.editable().rows.push_back(expandable);
  const Explanation told = explain(kept);
  REQUIRE(told.allocator.has_value());
  CHECK(told.allocator->allocated_bytes == 1024);
  CHECK(told.allocator->reserved_bytes == 4096);
  REQUIRE(told.allocator->levers.size() == 3);
  const auto expect = [&](std::size_t n, Effect effect, Bytes bytes) {
    CHECK(told.allocator->levers[n].effect == effect);
    CHECK(told.allocator->levers[n].peak_bytes == bytes);
  };
  expect(0, Effect::lowers, 1536);     // the other configuration of the allocator
  expect(1, Effect::lowers, 2048);     // the other setting under the same one
  expect(2, Effect::may_lower, 1024);  // no gaps
  CHECK(told.allocator->levers[0].row == kept.sweep().rows.size() - 1);
}

TEST_CASE("a summary alone explains what it can; a refused row nothing", "[explain]") {
  Sweep sweep = test::sample_sweep();
  const Explanation told = explain(SweepOnly(sweep));
  CHECK_FALSE(told.parts.empty());
  CHECK(told.holders.empty());
  CHECK_FALSE(told.parts.front().peak_without.has_value());
  sweep.recommended.written->row = 4;
  CHECK_THROWS_WITH(explain(SweepOnly(sweep)), Catch::Contains("no prediction"));
  sweep.recommended = {};
  CHECK_THROWS_WITH(explain(SweepOnly(sweep)), Catch::Contains("--row"));
}

}  // namespace
}  // namespace tidemark
