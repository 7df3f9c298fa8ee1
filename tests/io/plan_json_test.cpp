#include <catch2/catch.hpp>
#include <string>
#include <variant>

#include "block_chain.hpp"
#include "one_sentence.hpp"
#include "structural_damage.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

PlanFile sample_plan() {
  const StepTrace trace = test::BlockChain(2).trace();
  auto built = build_schedule(trace, {}, Setting{});
  PlanFile plan;
  plan.fingerprint = fingerprint(trace);
  plan.planner = "tide";
  plan.budget_bytes = 4096;
  plan.limit = Limit::live;
  plan.alloc_conf = "expandable_segments:True";
  plan.schedule = std::get<BuiltSchedule>(built).schedule;
  plan.predicted = simulate(trace, plan.schedule).figures;
  plan.packed_bytes = 8192;
  plan.lower_bound_seconds = 0.25;
  plan.gap = 0.125;
  plan.decisions = {"h.*: mlp.act (gelu) recomputed in 0 to 3, 1 ms"};
  SweepRow row;
  row.predicted = plan.predicted;
  row.fits = true;
  plan.modules.rows = {row};
  plan.modules.block_class = "Block";
  plan.modules.selective = SelectiveForm{
      .segments = {{"blocks.0"}, {"blocks.1"}},
      .operators = {{}, {{.name = "aten::add", .overload = "Tensor", .count = 3, .kept = {0, 2}}}},
      .predicted = plan.predicted};
  plan.measured = MeasuredFigures{.figures = plan.predicted, .step_seconds_noise = 0.5};
  plan.gradients = GradientVerdict::equal;
  return plan;
}

TEST_CASE("a plan is equal after writing and reading", "[plan_json]") {
  PlanFile plan = sample_plan();
  CHECK(parse_plan("p.json", format_plan(plan)) == plan);
  plan.budget_bytes.reset();
  plan.measured.reset();
  plan.gap.reset();
  plan.packed_bytes.reset();
  plan.lower_bound_seconds.reset();
  plan.truncated = true;
  plan.modules.selective.reset();
  plan.modules.row = 0;
  plan.modules.is_exact = true;
  plan.gradients = GradientVerdict::not_run;
  CHECK(parse_plan("p.json", format_plan(plan)) == plan);
}

TEST_CASE("a broken plan is refused in one sentence that names the place", "[plan_json]") {
  const auto refused = [](const std::string& text) {
    try {
      (void)parse_plan("p.json", text);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  std::string text = format_plan(sample_plan());
  CHECK_THAT(refused(text.substr(0, text.size() / 2)), Catch::StartsWith("p.json: "));
  CHECK_THAT(refused("{}"), Catch::StartsWith("p.json: "));
  const auto with = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return refused(std::string(text).replace(at, from.size(), to));
  };
  CHECK_THAT(with("tidemark.plan", "tidemark.sweep"), Catch::Contains("tidemark.sweep"));
  CHECK_THAT(with("\"truncated\":false", "\"truncated\":3"), Catch::Contains("truncated"));
  CHECK_THAT(with("\"operators\":[[],", "\"operators\":["), Catch::Contains("operators"));
  CHECK_THAT(with("\"row\":null", "\"row\":1"), Catch::Contains("modules.row"));
  CHECK_THAT(with("\"limit\":\"live\"", "\"limit\":\"no\""), Catch::Contains("limit"));
}

TEST_CASE("structural damage to a plan is read or refused in one sentence",
          "[plan_json][mutation]") {
  const std::string text = format_plan(sample_plan());
  int refused = 0;
  int accepted = 0;
  for (std::uint32_t n = 0; n < 1000; ++n) {
    CAPTURE(n);
    const bool is_read = test::succeeds_or_says_why("p.json", [&] {
      const PlanFile plan = parse_plan("p.json", test::structurally_damaged(text, n));
      CHECK(parse_plan("p.json", format_plan(plan)) == plan);
    });
    (is_read ? accepted : refused) += 1;
  }
  CHECK(refused > 300);
  CHECK(accepted > 30);
}

}  // namespace
}  // namespace tidemark
