#include <catch2/catch.hpp>
#include <string>
#include <variant>
#include <vector>

#include "block_chain.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

constexpr Bytes four_blocks_static = 50;

BuiltSchedule build_valid(const StepTrace& trace, const Setting& setting,
                          const BuildOptions& options = {}) {
  auto outcome = build_schedule(trace, find_blocks(trace), setting, options);
  if (const auto* invalid = std::get_if<InvalidSetting>(&outcome)) FAIL(invalid->reason);
  auto built = std::get<BuiltSchedule>(outcome);
  for (const Violation& violation : validate(trace, built.schedule)) {
    FAIL("step " << violation.step << ": " << violation.message);
  }
  return built;
}

std::string invalid_reason(const StepTrace& trace, const Setting& setting) {
  const auto outcome = build_schedule(trace, find_blocks(trace), setting);
  const auto* invalid = std::get_if<InvalidSetting>(&outcome);
  return invalid == nullptr ? "" : invalid->reason;
}

StepFigures figures(const StepTrace& trace, const Setting& setting) {
  return simulate(trace, build_valid(trace, setting).schedule).figures;
}

Setting checkpoints(std::int32_t k, Method method) {
  Setting setting;
  setting.number_checkpoints = k;
  setting.method = method;
  return setting;
}

Setting partitioned(std::int32_t k, Method method, std::int32_t ranks) {
  Setting setting = checkpoints(k, method);
  setting.partition_activations = true;
  setting.model_parallel_size = ranks;
  return setting;
}

TEST_CASE("without checkpoints the schedule is the recorded step", "[build_schedule]") {
  const BlockChain chain(4);
  const StepFigures plain = figures(chain.trace(), {});
  // At block 3's down_backward: x0..x3 (160), h0..h3 (400), loss (4), g4 (40), gh3 (100).
  CHECK(plain.live_peak_bytes == four_blocks_static + 160 + 400 + 4 + 40 + 100);
  CHECK(plain.peak_op.has_value());
  CHECK(chain.trace().ops[index(*plain.peak_op)].name == "down_backward");
  CHECK(plain.recompute_seconds == 0.0);
}

TEST_CASE("only a step that recomputes needs the workspaces of autograd's own thread",
          "[build_schedule]") {
  StepTrace trace = BlockChain(4).trace();
  const StepFigures plain = figures(trace, {});
  const Setting setting = checkpoints(4, Method::non_reentrant);
  const StepFigures four = figures(trace, setting);
  trace.recomputation_workspace_bytes = 77;
  CHECK(figures(trace, setting) == four);
  // The first block now multiplies with a bias.
  trace.ops[index(find_blocks(trace).front().blocks.front().first)].name = "aten::addmm";
  CHECK(figures(trace, {}) == plain);
  CHECK(figures(trace, setting).live_peak_bytes == four.live_peak_bytes + 77);
  const Schedule schedule = build_valid(trace, setting).schedule;
  const auto* first = std::get_if<Allocate>(&schedule.steps.front().action);
  REQUIRE(first != nullptr);
  CHECK(schedule.instances[index(first->instance)].bytes == 77);
  const auto* last = std::get_if<Free>(&schedule.steps.back().action);
  REQUIRE(last != nullptr);
  CHECK(last->instance == first->instance);
}

TEST_CASE("non-reentrant recomputation stops at the last storage that backward needs",
          "[build_schedule]") {
  const BlockChain chain(4);
  const StepFigures four = figures(chain.trace(), checkpoints(4, Method::non_reentrant));
  // At block 3's down_backward: x0..x3 (160), h3 again (100), loss (4), g4 (40), gh3 (100).
  CHECK(four.live_peak_bytes == four_blocks_static + 160 + 100 + 4 + 40 + 100);
  // Only `up` runs again in each block, 10 ns each.
  CHECK(four.recompute_seconds == Approx(40e-9));

  const StepFigures two = figures(chain.trace(), checkpoints(2, Method::non_reentrant));
  // x0, x2 (80), loss (4), g4 (40), h2, x3, h3 again (240), gh3 (100).
  CHECK(two.live_peak_bytes == four_blocks_static + 80 + 4 + 40 + 240 + 100);
  // up, down, up in each segment.
  CHECK(two.recompute_seconds == Approx(60e-9));
}

TEST_CASE("reentrant recomputation holds exactly one hidden state more", "[build_schedule]") {
  const BlockChain chain(4);
  for (const std::int32_t k : {1, 2, 4}) {
    const StepFigures reentrant = figures(chain.trace(), checkpoints(k, Method::reentrant));
    const StepFigures other = figures(chain.trace(), checkpoints(k, Method::non_reentrant));
    CHECK(reentrant.live_peak_bytes == other.live_peak_bytes + 40);
    CHECK(reentrant.recompute_seconds == Approx(80e-9));
  }
}

TEST_CASE("what the engine sums up belongs to the node that just returned", "[build_schedule]") {
  const BlockChain chain(4, {.sums_biases = true});
  const StepFigures four = figures(chain.trace(), checkpoints(4, Method::reentrant));
  // At block 3's down_backward: x0..x3 (160), h3 and x4 again (140), loss (4), g4 (40), gh3 (100).
  // At block 2's sum of g3, which block 3 made: x0..x2 (120), h2 and x3 again (140), loss (4),
  // g3 (40), gh2 (100), gw3, gb3 and gb2 (30); nothing of block 3 is held until then.
  CHECK(four.live_peak_bytes == four_blocks_static + 160 + 140 + 4 + 40 + 100);
}

TEST_CASE("a view between blocks belongs to none of them", "[build_schedule]") {
  const BlockChain chain(4, {.joins_parts = true});
  const StepFigures four = figures(chain.trace(), checkpoints(4, Method::reentrant));
  // At block 3's down_backward: x0..x3 (160), h3 and x4 again (140), loss (4), g4 (40), gh3 (100).
  // At block 2's: x0..x2 (120), h2 and x3 again (140), loss (4), g'3 (40), gh2 (100), gw3 (10);
  // g3 went when it had been joined to g'3, before block 2 ran again.
  CHECK(four.live_peak_bytes == four_blocks_static + 160 + 140 + 4 + 40 + 100);
  // Two blocks at once: within a checkpoint it belongs there. At block 3's down_backward: x0, x2
  // (80), h2, x3, h3 and x4 again (280), loss (4), g4 (40), gh3 (100).
  const StepFigures two = figures(chain.trace(), checkpoints(2, Method::reentrant));
  CHECK(two.live_peak_bytes == four_blocks_static + 80 + 280 + 4 + 40 + 100);
}

// Each `up` also makes a side value of 7 bytes for its backward. With gradients off it leaves the
// side value out and takes 3 bytes of scratch.
StepTrace chain_with_side_values(int blocks) {
  const BlockChain chain(blocks);
  StepTrace trace = chain.trace();
  for (int i = 0; i < blocks; ++i) {
    const auto side = make_id<StorageId>(trace.storages.size());
    trace.storages.push_back(trace.storages[index(chain.h(i))]);
    trace.storages.back().bytes = 7;
    Op& up = trace.ops[index(chain.up(i))];
    up.creates.push_back(side);
    up.no_grad = NoGradForm{.omits = {side}, .workspace_bytes = 3, .allocations = {}, .call = {}};
    for (std::size_t o = 0; o < trace.ops.size(); ++o) {
      const bool is_its_backward = trace.ops[o].name == "up_backward" &&
                                   trace.ops[o].forward_ops == std::vector{chain.up(i)};
      if (!is_its_backward) continue;
      trace.ops[o].reads.push_back(side);
      trace.storages[index(side)].freed_after = make_id<OpId>(o);
    }
  }
  return trace;
}

TEST_CASE("the reentrant method first runs a segment as it runs with gradients off",
          "[build_schedule]") {
  const StepTrace trace = chain_with_side_values(4);
  REQUIRE(check_trace(trace).empty());
  const BlockChain chain(4);
  const auto level_of_first = [&](OpId op, Method method) {
    const Schedule schedule = build_valid(trace, checkpoints(4, method)).schedule;
    const Prediction prediction = simulate(trace, schedule);
    for (std::size_t s = 0; s < schedule.steps.size(); ++s) {
      const auto* run = std::get_if<Run>(&schedule.steps[s].action);
      if (run != nullptr && run->op == op) return prediction.timeline.live_bytes[s];
    }
    return Bytes{-1};
  };
  // x0 (40), h0 (100) and the scratch, or the side value.
  CHECK(level_of_first(chain.up(0), Method::reentrant) == four_blocks_static + 40 + 100 + 3);
  CHECK(level_of_first(chain.up(0), Method::non_reentrant) == four_blocks_static + 40 + 100 + 7);
  // Recomputed with gradients on: as without a second form, and the side value.
  const StepFigures figures_with = figures(trace, checkpoints(4, Method::reentrant));
  const StepFigures figures_without = figures(chain.trace(), checkpoints(4, Method::reentrant));
  CHECK(figures_with.live_peak_bytes == figures_without.live_peak_bytes + 7);
}

TEST_CASE("what another segment reads is made with gradients off too", "[build_schedule]") {
  StepTrace trace = chain_with_side_values(2);
  const BlockChain chain(2);
  // Block 1 reads block 0's side value.
  const StorageId side = trace.ops[index(chain.up(0))].creates.back();
  trace.ops[index(chain.up(1))].reads.push_back(side);
  const Schedule schedule = build_valid(trace, checkpoints(2, Method::reentrant)).schedule;
  const auto first_run = [&](OpId op) {
    for (const Step& step : schedule.steps) {
      const auto* run = std::get_if<Run>(&step.action);
      if (run != nullptr && run->op == op) return *run;
    }
    return Run{};
  };
  CHECK(first_run(chain.up(0)).gradients == Gradients::on);
  CHECK(first_run(chain.up(1)).gradients == Gradients::off);
}

TEST_CASE("blocking offload leaves no checkpoint on the device", "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = checkpoints(4, Method::non_reentrant);
  setting.cpu_checkpointing = CpuCheckpointing::blocking;
  const StepFigures offloaded = figures(chain.trace(), setting);
  // With nothing held, the weights' gradients decide: the peak is at block 0's down_backward with
  // gw1..gw3 (30), loss (4), g1 (40), x0 fetched (40), h0 again (100), gh0 (100).
  CHECK(offloaded.live_peak_bytes == four_blocks_static + 30 + 4 + 40 + 40 + 100 + 100);
  CHECK(offloaded.host_peak_bytes == 4 * 40);
  CHECK(offloaded.transfer_bytes == 2 * 4 * 40);
}

TEST_CASE("asynchronous offload keeps the two newest checkpoints on the device",
          "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = checkpoints(4, Method::non_reentrant);
  setting.cpu_checkpointing = CpuCheckpointing::async;
  const StepFigures offloaded = figures(chain.trace(), setting);
  // Block 3's down_backward: x2 and x3 still on the device (80), loss (4), g4 (40), h3 (100),
  // gh3 (100), and the scalars left in the callers' x0..x2 (12). Copies went down for x0, x1 and
  // x2, and come up for x0 and x1.
  CHECK(offloaded.live_peak_bytes == four_blocks_static + 80 + 4 + 40 + 100 + 100 + 12);
  CHECK(offloaded.host_peak_bytes == 3 * 40);
  CHECK(offloaded.transfer_bytes == 5 * 40);
}

TEST_CASE("a partitioned checkpoint is held as one rank's slice and gathered", "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = partitioned(4, Method::non_reentrant, 2);
  const StepFigures partitioned = figures(chain.trace(), setting);
  // Slices of x0..x2 (60) and the scalars left in the callers' (12), x3 gathered (40), loss (4),
  // g4 (40), h3 (100), gh3 (100).
  CHECK(partitioned.live_peak_bytes == four_blocks_static + 60 + 12 + 40 + 4 + 40 + 100 + 100);
  CHECK(partitioned.host_peak_bytes == 0);

  // With one rank the clone takes the original's place: the scalars are on top of plain.
  setting.model_parallel_size = 1;
  CHECK(figures(chain.trace(), setting).live_peak_bytes ==
        figures(chain.trace(), checkpoints(4, Method::non_reentrant)).live_peak_bytes + 12);
}

TEST_CASE("a segment's own values are gone when its checkpoint is dealt with, the original is not",
          "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = partitioned(4, Method::reentrant, 2);
  const Schedule schedule = build_valid(chain.trace(), setting).schedule;
  // Behind block 1's last operator: h1 goes, a scalar comes for the caller's x1, x1 goes.
  std::vector<std::string> events;
  bool is_behind = false;
  for (const Step& step : schedule.steps) {
    const auto* run = std::get_if<Run>(&step.action);
    if (run != nullptr && is_behind) break;
    is_behind = is_behind || (run != nullptr && run->op == chain.down(1));
    if (!is_behind) continue;
    if (const auto* freed = std::get_if<Free>(&step.action)) {
      const StorageId storage = schedule.instances[index(freed->instance)].storage;
      if (storage == chain.h(1)) events.emplace_back("h");
      if (storage == chain.x(1)) events.emplace_back("x");
    } else if (const auto* made = std::get_if<Allocate>(&step.action)) {
      if (schedule.instances[index(made->instance)].bytes == 4) events.emplace_back("scalar");
    }
  }
  CHECK(events == std::vector<std::string>{"h", "scalar", "x"});
}

TEST_CASE("contiguous buffers exist from the first checkpoint to the first backward",
          "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = partitioned(4, Method::non_reentrant, 2);
  setting.contiguous_memory_optimization = true;
  const BuiltSchedule built = build_valid(chain.trace(), setting);
  // In block 0's forward all four buffers (80) exist beside x0 (40), h0 (100) and x1 (40).
  const Prediction prediction = simulate(chain.trace(), built.schedule);
  Bytes at_first_down = 0;
  for (std::size_t s = 0; s < built.schedule.steps.size() && at_first_down == 0; ++s) {
    const auto* run = std::get_if<Run>(&built.schedule.steps[s].action);
    if (run != nullptr && run->op == chain.down(0))
      at_first_down = prediction.timeline.live_bytes[s];
  }
  CHECK(at_first_down == four_blocks_static + 80 + 40 + 100 + 40);
}

TEST_CASE("settings that DeepSpeed refuses are refused with its reason", "[build_schedule]") {
  const BlockChain chain(4);
  Setting setting = checkpoints(4, Method::reentrant);
  setting.contiguous_memory_optimization = true;
  CHECK_THAT(invalid_reason(chain.trace(), setting),
             Catch::Contains("only available with partitioned activations"));
  setting.partition_activations = true;
  setting.number_checkpoints.reset();
  CHECK_THAT(invalid_reason(chain.trace(), setting),
             Catch::Contains("Must specify the number of layers"));

  setting = partitioned(4, Method::reentrant, 3);  // 40 bytes of float32 are 10 elements
  CHECK_THAT(invalid_reason(chain.trace(), setting), Catch::Contains("not divisible by mp size"));

  setting = checkpoints(4, Method::reentrant);
  setting.cpu_checkpointing = CpuCheckpointing::async;
  setting.deepspeed_version = {.major = 0, .minor = 19, .patch = 5};
  CHECK_THAT(invalid_reason(chain.trace(), setting), Catch::Contains("0.19.6"));
}

TEST_CASE("an input that no gradient reaches makes the reentrant form invalid",
          "[build_schedule]") {
  BlockChain chain(2);
  // The embedding is frozen: its weight has no gradient, so x0 needs none.
  chain.trace().gradients.pop_back();
  CHECK_THAT(invalid_reason(chain.trace(), checkpoints(2, Method::reentrant)),
             Catch::Contains("requires_grad"));
  CHECK(invalid_reason(chain.trace(), checkpoints(2, Method::non_reentrant)).empty());
}

TEST_CASE("a checkpoint whose input is overwritten inside it is invalid", "[build_schedule]") {
  BlockChain chain(2);
  chain.trace().ops[index(chain.down(1))].writes = {chain.x(1)};
  CHECK_THAT(invalid_reason(chain.trace(), checkpoints(2, Method::non_reentrant)),
             Catch::Contains("modified by an inplace operation"));
}

TEST_CASE("an input that two checkpoints move is invalid, as DeepSpeed crashes",
          "[build_schedule]") {
  BlockChain chain(3);
  // Block 2 also reads x0, as a decoder's block reads the encoder's output.
  chain.trace().ops[index(chain.up(2))].reads.push_back(chain.x(0));
  Setting setting = checkpoints(3, Method::non_reentrant);
  CHECK(invalid_reason(chain.trace(), setting).empty());
  setting.partition_activations = true;
  CHECK_THAT(invalid_reason(chain.trace(), setting), Catch::Contains("crashes"));
}

TEST_CASE("a moved checkpoint that the operator before it saved lives until that one lets go",
          "[build_schedule]") {
  // The embedding saves its result, as a stem's ReLU does: x0 is block 0's checkpoint too.
  BlockChain chain(3);
  StepTrace& trace = chain.trace();
  trace.ops.back().reads.push_back(chain.x(0));
  trace.storages[index(chain.x(0))].freed_after = make_id<OpId>(trace.ops.size() - 1);
  for (const Method method : {Method::reentrant, Method::non_reentrant}) {
    for (const CpuCheckpointing cpu :
         {CpuCheckpointing::off, CpuCheckpointing::blocking, CpuCheckpointing::async}) {
      for (const std::int32_t k : {1, 2, 3}) {
        Setting setting = checkpoints(k, method);
        setting.cpu_checkpointing = cpu;
        (void)build_valid(trace, setting);
        setting.partition_activations = cpu != CpuCheckpointing::async;
        setting.model_parallel_size = 2;
        (void)build_valid(trace, setting);
      }
    }
  }
}

TEST_CASE("the breakdown names what a checkpointed peak consists of", "[build_schedule]") {
  const BlockChain chain(4);
  const StepFigures four = figures(chain.trace(), checkpoints(4, Method::non_reentrant));
  const auto term = [&](Term t) { return four.peak_breakdown[static_cast<std::size_t>(t)]; };
  CHECK(term(Term::static_memory) == four_blocks_static);
  CHECK(term(Term::held_checkpoints) == 160);
  CHECK(term(Term::recomputed_segment) == 100);
  CHECK(term(Term::outside_blocks) == 4);
  CHECK(term(Term::activation_gradients) == 140);
  CHECK(four.peak_term == Term::held_checkpoints);
}

TEST_CASE("every setting of chains of many lengths passes the validator", "[build_schedule]") {
  for (const int blocks : {2, 3, 5, 8}) {
    const BlockChain chain(blocks);
    for (const std::int32_t k : distinct_checkpoint_counts(find_blocks(chain.trace()))) {
      for (const Method method : {Method::reentrant, Method::non_reentrant}) {
        for (const CpuCheckpointing cpu :
             {CpuCheckpointing::off, CpuCheckpointing::blocking, CpuCheckpointing::async}) {
          for (const bool contiguous : {false, true}) {
            for (const std::int32_t ranks : {0, 1, 2, 5}) {  // 0: no partitioning
              Setting setting = checkpoints(k, method);
              setting.cpu_checkpointing = cpu;
              setting.contiguous_memory_optimization = contiguous;
              setting.partition_activations = ranks > 0;
              setting.model_parallel_size = std::max(ranks, 1);
              const bool is_refused =
                  (contiguous && ranks == 0) || (cpu == CpuCheckpointing::async && ranks > 0);
              if (is_refused) {
                CHECK_FALSE(invalid_reason(chain.trace(), setting).empty());
              } else {
                CHECK(build_valid(chain.trace(), setting).segments.size() <=
                      static_cast<std::size_t>(k));
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidemark
