#include "tidemark/module_forms.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <variant>

#include "block_chain.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

// Calls are what tells operators apart by overload.
StepTrace with_calls(StepTrace trace) {
  for (Op& op : trace.ops) op.call = Call{};
  return trace;
}

Setting each_block(std::int32_t blocks, Method method = Method::non_reentrant) {
  Setting setting;
  setting.number_checkpoints = blocks;
  setting.method = method;
  return setting;
}

Schedule built(const StepTrace& trace, const Setting& setting, std::vector<OpId> kept = {}) {
  auto outcome = build_schedule(trace, find_blocks(trace), setting,
                                {.hold_outputs = false, .kept = std::move(kept)});
  return std::get<BuiltSchedule>(std::move(outcome)).schedule;
}

Plan plan_of(const StepTrace& trace, const Schedule& schedule) {
  Plan plan;
  plan.schedule = schedule;
  plan.prediction = simulate(trace, schedule);
  return plan;
}

PlanRequest request_for(const StepTrace& trace, std::optional<Bytes> budget) {
  PlanRequest request;
  request.budget_bytes = budget;
  request.runs = find_blocks(trace);
  return request;
}

// At the peak of four single blocks, down_backward of the last: static 50, loss 4, x0 to x3 160,
// gradient 40, h3 100, its gradient 100.
constexpr Bytes peak_of_single_blocks = 454;

TEST_CASE("a kept operator is not run again and its result stays", "[module_forms]") {
  const BlockChain chain(4);
  const StepTrace& trace = chain.trace();
  const auto figures = [&](std::vector<OpId> kept) {
    const Schedule schedule = built(trace, each_block(4), std::move(kept));
    CHECK(validate(trace, schedule).empty());
    return simulate(trace, schedule).figures;
  };
  CHECK(figures({}).live_peak_bytes == peak_of_single_blocks);
  // h0 is held through the backward of the others.
  CHECK(figures({chain.up(0)}).live_peak_bytes == peak_of_single_blocks + 100);
  // h3 is there anyway when the peak comes.
  CHECK(figures({chain.up(3)}).live_peak_bytes == peak_of_single_blocks);
  CHECK(figures({}).recompute_seconds == Approx(40e-9));
  CHECK(figures({chain.up(0), chain.up(3)}).recompute_seconds == Approx(20e-9));
  // All kept: as without checkpointing.
  CHECK(figures({chain.up(0), chain.up(1), chain.up(2), chain.up(3)}).recompute_seconds == 0);
}

TEST_CASE("what is kept behind the recomputation's end stays as long as the checkpoint",
          "[module_forms]") {
  const BlockChain chain(4);
  // down(2) makes x3, which is not run again. It is the last block's checkpoint and dies with that;
  // kept, it stays until block 2 has let go of its own.
  const Schedule plain = built(chain.trace(), each_block(4));
  const Schedule kept = built(chain.trace(), each_block(4), {chain.down(2)});
  CHECK(validate(chain.trace(), kept).empty());
  const auto frees_before_end = [&](const Schedule& schedule) {
    std::size_t last_run = 0;
    std::size_t free_of_x3 = 0;
    for (std::size_t s = 0; s < schedule.steps.size(); ++s) {
      const auto& action = schedule.steps[s].action;
      if (const auto* run = std::get_if<Run>(&action)) {
        const Op& op = chain.trace().ops[index(run->op)];
        if (op.name == "up_backward" && free_of_x3 == 0) last_run = s;
      }
      const auto* free = std::get_if<Free>(&action);
      if (free != nullptr && schedule.instances[index(free->instance)].storage == chain.x(3)) {
        free_of_x3 = s;
        return chain.trace().ops[index(std::get<Run>(schedule.steps[last_run].action).op)].module;
      }
    }
    return std::string();
  };
  CHECK(frees_before_end(plain) == "blocks.3.inner");
  CHECK(frees_before_end(kept) == "blocks.2.inner");
}

TEST_CASE("a plan that is a grouping of blocks is found out", "[module_forms]") {
  const StepTrace trace = BlockChain(4).trace();
  const Schedule schedule = built(trace, each_block(2));
  const ModuleForms forms = module_forms(trace, request_for(trace, 1000), plan_of(trace, schedule));
  REQUIRE(forms.row);
  CHECK(forms.is_exact);
  CHECK_FALSE(forms.selective);
  const Setting& setting = forms.rows[*forms.row].setting;
  CHECK(setting.number_checkpoints == 2);
  CHECK(setting.method == Method::non_reentrant);
  CHECK(setting.segments ==
        std::vector<std::vector<std::string>>{{"blocks.0", "blocks.1"}, {"blocks.2", "blocks.3"}});
  CHECK(forms.block_class == "Block");
  // None, and 1, 2 and 4 checkpoints in both methods.
  CHECK(forms.rows.size() == 7);
}

TEST_CASE("single operators become selective checkpoints that keep the budget", "[module_forms]") {
  const BlockChain chain(4);
  const StepTrace trace = with_calls(chain.trace());
  const Plan plan = plan_of(trace, built(trace, each_block(4), {chain.up(3)}));
  const ModuleForms forms = module_forms(trace, request_for(trace, peak_of_single_blocks), plan);
  CHECK_FALSE(forms.row);
  REQUIRE(forms.selective);
  CHECK(forms.selective->predicted.live_peak_bytes == peak_of_single_blocks);
  CHECK(forms.selective->predicted.recompute_seconds == Approx(30e-9));
  REQUIRE(forms.selective->operators.size() == 4);
  CHECK(forms.selective->operators[0].empty());
  CHECK(forms.selective->operators[3] ==
        std::vector<OperatorCalls>{{.name = "up", .overload = "", .count = 1, .kept = {0}}});
}

TEST_CASE("operators are given up until the budget is kept", "[module_forms]") {
  const BlockChain chain(4);
  const StepTrace trace = with_calls(chain.trace());
  // The plan holds h0 and needs 554; the budget of its module form is smaller.
  const Plan plan = plan_of(trace, built(trace, each_block(4), {chain.up(0)}));
  const ModuleForms forms = module_forms(trace, request_for(trace, peak_of_single_blocks), plan);
  // Either h3 is kept, which costs nothing, or nothing is.
  const StepFigures& figures =
      forms.selective ? forms.selective->predicted : *forms.rows.at(forms.row.value()).predicted;
  CHECK(figures.live_peak_bytes <= peak_of_single_blocks);
}

TEST_CASE("below every form nothing stands for the plan", "[module_forms]") {
  const StepTrace trace = with_calls(BlockChain(4).trace());
  const Plan plan = plan_of(trace, built(trace, each_block(4), {BlockChain(4).up(3)}));
  const ModuleForms forms =
      module_forms(trace, request_for(trace, peak_of_single_blocks - 1), plan);
  CHECK_FALSE(forms.row);
  CHECK_FALSE(forms.selective);
  CHECK(std::none_of(forms.rows.begin(), forms.rows.end(),
                     [](const SweepRow& row) { return *row.fits; }));
}

TEST_CASE("blocks that are no modules have no forms", "[module_forms]") {
  StepTrace trace = BlockChain(4).trace();
  const Plan plan = plan_of(trace, built(trace, each_block(2)));
  PlanRequest request = request_for(trace, 1000);
  trace.modules.clear();
  CHECK(module_forms(trace, request, plan) == ModuleForms{});
  request.runs.clear();
  CHECK(module_forms(BlockChain(4).trace(), request, plan) == ModuleForms{});
}

}  // namespace
}  // namespace tidemark
