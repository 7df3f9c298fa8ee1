#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "block_chain.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

std::vector<BlockRun> runs_of_lengths(const std::vector<int>& lengths) {
  std::vector<BlockRun> runs;
  std::size_t op = 0;
  for (const int length : lengths) {
    BlockRun run;
    for (int i = 0; i < length; ++i, ++op) {
      run.blocks.push_back(
          {.name = std::to_string(op), .first = make_id<OpId>(op), .last = make_id<OpId>(op)});
    }
    runs.push_back(run);
  }
  return runs;
}

std::vector<std::size_t> sizes(const std::vector<Segment>& segments) {
  std::vector<std::size_t> sizes;
  for (const Segment& segment : segments) sizes.push_back(segment.blocks.size());
  return sizes;
}

TEST_CASE("segments hold ceil(B/K) blocks and the last one is shorter", "[segments]") {
  const auto runs = runs_of_lengths({10});
  CHECK(sizes(make_segments(runs, 3)) == std::vector<std::size_t>{4, 4, 2});
  CHECK(sizes(make_segments(runs, 1)) == std::vector<std::size_t>{10});
  CHECK(sizes(make_segments(runs, 10)) == std::vector<std::size_t>(10, 1));
  // ceil(10/6) = 2 gives only five segments.
  CHECK(sizes(make_segments(runs, 6)) == std::vector<std::size_t>(5, 2));
  CHECK(sizes(make_segments(runs, 100)) == std::vector<std::size_t>(10, 1));
  CHECK(make_segments(runs, 0).empty());
}

TEST_CASE("uneven segments differ by at most one block", "[segments]") {
  CHECK(sizes(make_segments(runs_of_lengths({10}), 3, true)) == std::vector<std::size_t>{4, 3, 3});
  CHECK(sizes(make_segments(runs_of_lengths({10}), 6, true)) ==
        std::vector<std::size_t>{2, 2, 2, 2, 1, 1});
}

TEST_CASE("checkpoints are divided over runs in proportion, at least one each", "[segments]") {
  const auto runs = runs_of_lengths({6, 2});
  CHECK(sizes(make_segments(runs, 4)) == std::vector<std::size_t>{2, 2, 2, 2});
  CHECK(sizes(make_segments(runs, 1)) == std::vector<std::size_t>{6, 2});
  CHECK(sizes(make_segments(runs, 8)) == std::vector<std::size_t>(8, 1));
}

TEST_CASE("no segment crosses from one run to the next", "[segments]") {
  const auto runs = runs_of_lengths({3, 4, 5});
  for (std::int32_t k = 1; k <= 12; ++k) {
    std::size_t covered = 0;
    for (const Segment& segment : make_segments(runs, k)) {
      const auto run_of = [](OpId op) { return index(op) < 3 ? 0 : index(op) < 7 ? 1 : 2; };
      CHECK(run_of(segment.first) == run_of(segment.last));
      CHECK(index(segment.first) == covered);
      covered += segment.blocks.size();
    }
    CHECK(covered == 12);
  }
}

TEST_CASE("only counts that give a new grouping are distinct", "[segments]") {
  // ceil(12/K): 12, 6, 4, 3, 3, 2, 2, 2, 2, 2, 2, 1.
  CHECK(distinct_checkpoint_counts(runs_of_lengths({12})) ==
        std::vector<std::int32_t>{1, 2, 3, 4, 6, 12});
  CHECK(distinct_checkpoint_counts({}).empty());
}

TEST_CASE("a segment's inputs are what it reads from outside, less parameters", "[segments]") {
  const BlockChain chain(3);
  const auto segments = make_segments(find_blocks(chain.trace()), 3);
  REQUIRE(segments.size() == 3);
  CHECK(segment_inputs(chain.trace(), segments[1]) == std::vector<StorageId>{chain.x(1)});
}

TEST_CASE("blocks are the deepest chains of siblings of one class", "[find_blocks]") {
  const BlockChain chain(4);
  const auto runs = find_blocks(chain.trace());
  REQUIRE(runs.size() == 1);
  REQUIRE(runs[0].blocks.size() == 4);
  CHECK(runs[0].blocks[2].name == "blocks.2");
  CHECK(runs[0].blocks[2].first == chain.up(2));
  CHECK(runs[0].blocks[2].last == chain.down(2));
}

TEST_CASE("siblings that do not consume each other are no blocks", "[find_blocks]") {
  BlockChain chain(4);
  // Experts in parallel: every block reads x0.
  for (int i = 1; i < 4; ++i) chain.trace().ops[index(chain.up(i))].reads[0] = chain.x(0);
  for (const BlockRun& run : find_blocks(chain.trace())) {
    for (const Block& block : run.blocks) CHECK(block.name.starts_with("ops "));
  }
}

TEST_CASE("a pattern names the blocks instead", "[find_blocks]") {
  const BlockChain chain(4);
  const auto runs = find_blocks(chain.trace(), "blocks.[0-9]");
  CHECK(runs.empty());  // brackets are no wildcard here
  const auto odd = find_blocks(chain.trace(), "*.inner");
  CHECK(odd.empty());  // a star does not cross a dot
  const auto inner = find_blocks(chain.trace(), "**.inner");
  REQUIRE(inner.size() == 4);  // four parents, four runs
  const auto all = find_blocks(chain.trace(), "blocks.?");
  REQUIRE(all.size() == 1);
  CHECK(all[0].blocks.size() == 4);
}

TEST_CASE("without module paths the graph's cut points serve", "[find_blocks]") {
  BlockChain chain(4);
  chain.trace().modules.clear();
  for (Op& op : chain.trace().ops) op.module.clear();
  const auto runs = find_blocks(chain.trace());
  REQUIRE(runs.size() == 1);
  // One value is carried after embed and after each up and down: nine cuts, eight pieces.
  CHECK(runs[0].blocks.size() == 8);
  for (std::size_t i = 1; i < runs[0].blocks.size(); ++i) {
    CHECK(index(runs[0].blocks[i].first) == index(runs[0].blocks[i - 1].last) + 1);
  }
}

}  // namespace
}  // namespace tidemark
