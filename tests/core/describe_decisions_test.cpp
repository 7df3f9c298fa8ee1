#include <catch2/catch.hpp>
#include <string>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

std::vector<std::string> decisions_of(const StepTrace& trace, const Setting& setting) {
  auto built = build_schedule(trace, find_blocks(trace), setting);
  return describe_decisions(trace, std::get<BuiltSchedule>(built).schedule);
}

TEST_CASE("keeping everything decides nothing", "[decisions]") {
  CHECK(decisions_of(test::BlockChain(4).trace(), {}).empty());
}

// Each of the four blocks runs its two operators of 10 ns again.
TEST_CASE("what is recomputed is told once for all its blocks", "[decisions]") {
  StepTrace trace = test::BlockChain(4).trace();
  for (Op& op : trace.ops) op.name = "aten::" + op.name;
  const std::vector<std::string> told =
      decisions_of(trace, {.number_checkpoints = 4, .method = Method::reentrant});
  REQUIRE(told.size() == 1);
  CHECK_THAT(told.front(), Catch::StartsWith("blocks.*: "));
  CHECK_THAT(told.front(), Catch::Contains("up"));
  CHECK_THAT(told.front(), Catch::Contains("down"));
  CHECK_THAT(told.front(), Catch::EndsWith("recomputed in 0 to 3, 0.08 us"));
}

// Each of the blocks' inputs, 40 bytes, goes to the host.
TEST_CASE("what is offloaded is told with its bytes", "[decisions]") {
  const std::vector<std::string> told =
      decisions_of(test::BlockChain(4).trace(),
                   {.number_checkpoints = 4, .cpu_checkpointing = CpuCheckpointing::blocking});
  std::string offloaded;
  for (const std::string& sentence : told) {
    if (sentence.find("offloaded") != std::string::npos) offloaded += sentence + "\n";
  }
  CHECK_THAT(offloaded, Catch::Contains("blocks.*: ") && Catch::Contains("0 to 2, 120 B"));
}

}  // namespace
}  // namespace tidemark
