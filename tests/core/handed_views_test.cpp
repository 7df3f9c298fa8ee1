// Checkpoints that are given views: what DeepSpeed keeps of them, and what their bases hold on.
#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

constexpr int chain_blocks = 4;
constexpr Bytes statics = 50;
// At block 3's down_backward: loss (4), g4 (40), h3 (100), gh3 (100).
constexpr Bytes last_block = 244;

HandedTensor tensor(StorageId storage, std::vector<std::int64_t> sizes,
                    std::vector<std::int64_t> strides, std::int64_t offset = 0) {
  HandedTensor handed{.view = {}, .is_view = true};
  handed.view.storage = storage;
  handed.view.sizes = std::move(sizes);
  handed.view.strides = std::move(strides);
  handed.view.offset = offset;
  return handed;
}

Module& block(BlockChain& chain, int i) {
  return chain.trace().modules[static_cast<std::size_t>(2 + 2 * i)];
}

// A chain whose every block is given `views` of its x, of which each has ten elements.
BlockChain chain_given(const std::vector<HandedTensor>& views) {
  BlockChain chain(chain_blocks);
  for (int i = 0; i < chain_blocks; ++i) {
    for (HandedTensor view : views) {
      view.view.storage = chain.x(i);
      block(chain, i).inputs.push_back(view);
    }
  }
  return chain;
}

Setting partitioned(std::int32_t ranks) {
  Setting setting;
  setting.number_checkpoints = chain_blocks;
  setting.method = Method::reentrant;
  setting.partition_activations = true;
  setting.model_parallel_size = ranks;
  return setting;
}

struct Outcome {
  StepFigures figures;
  std::vector<std::string> notes;
  std::string refusal;
};

Outcome outcome(const StepTrace& trace, const Setting& setting) {
  auto built = build_schedule(trace, find_blocks(trace), setting);
  if (const auto* invalid = std::get_if<InvalidSetting>(&built)) {
    return {.figures = {}, .notes = {}, .refusal = invalid->reason};
  }
  const auto& valid = std::get<BuiltSchedule>(built);
  for (const Violation& violation : validate(trace, valid.schedule)) {
    FAIL("step " << violation.step << ": " << violation.message);
  }
  return {.figures = simulate(trace, valid.schedule).figures, .notes = valid.notes, .refusal = ""};
}

bool tells_of_layouts(const Outcome& outcome) {
  return std::any_of(outcome.notes.begin(), outcome.notes.end(), [](const std::string& note) {
    return note.find("in another layout than to the forward") != std::string::npos;
  });
}

// The reentrant form also holds block 3's recomputed output, x4 (40).
constexpr Bytes recomputed_output = 40;

TEST_CASE("a view of a whole storage is emptied while its base stays", "[handed_views]") {
  const Outcome plain = outcome(BlockChain(chain_blocks).trace(), partitioned(2));
  // Slices of x0..x2 (60), the scalars left in their tensors (12), x3 gathered (40).
  CHECK(plain.figures.live_peak_bytes == statics + 60 + 12 + 40 + last_block + recomputed_output);
  BlockChain chain = chain_given({tensor({}, {5, 2}, {2, 1})});
  const Outcome views = outcome(chain.trace(), partitioned(2));
  CHECK(views.figures.live_peak_bytes == plain.figures.live_peak_bytes + 160);
  CHECK_FALSE(tells_of_layouts(views));
  // What is told to be no view is as what is not told.
  for (int i = 0; i < chain_blocks; ++i) block(chain, i).inputs.front().is_view = false;
  CHECK(outcome(chain.trace(), partitioned(2)).figures == plain.figures);
}

TEST_CASE("of contiguous parts each is kept and gathered", "[handed_views]") {
  const BlockChain chain = chain_given({tensor({}, {5}, {1}), tensor({}, {5}, {1}, 5)});
  const Outcome halves = outcome(chain.trace(), partitioned(5));
  // Bases (160), two slices of 4 each and two scalars for x0..x2, both halves of x3 gathered.
  CHECK(halves.figures.live_peak_bytes ==
        statics + 160 + 24 + 24 + 40 + last_block + recomputed_output);
  CHECK_FALSE(tells_of_layouts(halves));
  CHECK_THAT(outcome(chain.trace(), partitioned(2)).refusal,
             Catch::Contains("has 5 elements, model_parallel_size is 2"));

  const BlockChain first_rows = chain_given({tensor({}, {2, 2}, {2, 1}, 2)});
  const Outcome rows = outcome(first_rows.trace(), partitioned(2));
  // Slices of 8 for x0..x2, the four elements of x3 gathered.
  CHECK(rows.figures.live_peak_bytes ==
        statics + 160 + 24 + 12 + 16 + last_block + recomputed_output);
}

TEST_CASE("expanded elements are kept each, and the layout's change is told", "[handed_views]") {
  const BlockChain chain = chain_given({tensor({}, {3, 10}, {0, 1})});
  const Outcome expanded = outcome(chain.trace(), partitioned(2));
  CHECK(expanded.figures.live_peak_bytes ==
        statics + 160 + 180 + 12 + 120 + last_block + recomputed_output);
  CHECK(tells_of_layouts(expanded));
}

TEST_CASE("a layout that the host keeps is as it was", "[handed_views]") {
  const BlockChain turned = chain_given({tensor({}, {2, 5}, {1, 2})});
  CHECK(tells_of_layouts(outcome(turned.trace(), partitioned(2))));
  Setting on_host = partitioned(1);
  on_host.partition_activations = false;
  on_host.cpu_checkpointing = CpuCheckpointing::blocking;
  const Outcome kept = outcome(turned.trace(), on_host);
  CHECK_FALSE(tells_of_layouts(kept));
  CHECK(kept.figures.host_peak_bytes == 4 * 40);
  const BlockChain gaps = chain_given({tensor({}, {2, 2}, {5, 1})});
  const Outcome closed = outcome(gaps.trace(), on_host);
  CHECK(tells_of_layouts(closed));
  CHECK(closed.figures.host_peak_bytes == 4 * 16);
  on_host.cpu_checkpointing = CpuCheckpointing::async;
  const Outcome rebuilt = outcome(gaps.trace(), on_host);
  CHECK(rebuilt.notes.empty());
  CHECK(rebuilt.figures.host_peak_bytes == 3 * 16);
  // Bases (160), which x2's and x3's views hold as x0's and x1's do, and the scalars left in
  // x0..x2.
  CHECK(rebuilt.figures.live_peak_bytes == statics + 160 + 12 + last_block + recomputed_output);
}

TEST_CASE("two checkpoints may have parts of one storage, but not the same tensor",
          "[handed_views]") {
  BlockChain chain(2);
  StepTrace& trace = chain.trace();
  trace.ops[index(chain.up(1))].reads.push_back(chain.x(0));
  Setting setting = partitioned(1);
  setting.number_checkpoints = 2;
  const auto refuses = [&] {
    return outcome(trace, setting).refusal.find("is read again afterwards by another checkpoint") !=
           std::string::npos;
  };
  CHECK(refuses());
  block(chain, 0).inputs = {tensor(chain.x(0), {5}, {1})};
  block(chain, 1).inputs = {tensor(chain.x(1), {10}, {1}), tensor(chain.x(0), {5}, {1}, 5)};
  // The readers' calls would tell whether they read the emptied view; without them they may.
  CHECK(refuses());
  Call call;
  call.arguments = {{tensor(chain.x(0), {5}, {1}, 5).view}};
  trace.ops[index(chain.up(1))].call = call;
  CHECK_FALSE(refuses());
  block(chain, 1).inputs.back() = block(chain, 0).inputs.front();
  CHECK(refuses());
}

}  // namespace
}  // namespace tidemark
