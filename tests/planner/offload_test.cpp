#include "tide/offload.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <random>
#include <stdexcept>
#include <variant>
#include <vector>

#include "exhaustive_offload.hpp"
#include "model_steps.hpp"
#include "planner_named.hpp"
#include "random_trace.hpp"
#include "tide/write_schedule.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

using tide::Offload;
using tide::OffloadChoice;
using tide::Retention;
using tide::StepGraph;

constexpr Bytes any_bytes = Bytes{1} << 50;

StepTrace with_rate(StepTrace trace, double bytes_per_second) {
  trace.device.copy_bytes_per_second = bytes_per_second;
  return trace;
}

std::optional<Plan> plan(const StepTrace& trace, Bytes budget, Bytes host_budget) {
  PlanRequest request;
  request.runs = find_blocks(trace);
  request.budget_bytes = budget;
  request.host_budget_bytes = host_budget;
  PlanOutcome outcome = run_planner(test::planner_named("tide"), trace, request);
  auto* found = std::get_if<Plan>(&outcome);
  return found == nullptr ? std::nullopt : std::optional(std::move(*found));
}

Bytes budget_at(const StepTrace& trace, double part) {
  const StepFigures plain = simulate(trace, plain_schedule(trace)).figures;
  const auto range = static_cast<double>(plain.live_peak_bytes - plain.static_bytes);
  return plain.static_bytes + static_cast<Bytes>(part * range);
}

// Six operators of 100 ns, each making 10 bytes; the second and the last read what the first made.
StepTrace six_operators() {
  StepTrace trace;
  trace.storages.resize(6);
  for (Storage& storage : trace.storages) storage.bytes = 10;
  for (std::size_t o = 0; o < 6; ++o) {
    Op op;
    op.name = "op";
    if (o > 0) op.reads = {make_id<StorageId>(o - 1)};
    if (o == 5) op.reads.push_back(StorageId{0});
    op.creates = {make_id<StorageId>(o)};
    op.duration = Nanoseconds(100);
    trace.ops.push_back(op);
  }
  trace.keep = {StorageId{5}};
  return trace;
}

TEST_CASE("a copy starts after the last use and is back right before the next", "[offload]") {
  const StepTrace trace = six_operators();
  REQUIRE(check_trace(trace).empty());
  const StepGraph graph(trace);
  const Retention everything(graph);
  const auto choose = [&](tide::OffloadRates rates, double stretch, Bytes host_budget) {
    return OffloadChoice(graph, everything, rates, stretch).choose(0, host_budget);
  };
  // 50 ns a copy: to the host from 200 to 250, back from 450 to 500.
  const std::vector<Offload> expected{
      {.value = 0, .after = 1, .freed = 3, .fetched = 4, .back = 5}};
  CHECK(choose({.to_host = 0.2e9, .to_device = 0.2e9}, 0, 10) == expected);
  // 100 ns to the host, done when the fourth operator begins; 25 ns back.
  CHECK(choose({.to_host = 0.1e9, .to_device = 0.4e9}, 0, 10) == expected);
  // 125 ns back: from 375 on, so that the fourth operator has it again.
  CHECK(choose({.to_host = 0.1e9, .to_device = 0.08e9}, 0, 10).empty());
  // If the step took twice as long, it would be in time.
  CHECK(choose({.to_host = 0.1e9, .to_device = 0.08e9}, 1, 10) == expected);
  CHECK(choose({.to_host = 0.2e9, .to_device = 0.2e9}, 0, 9).empty());

  Retention plan(graph, expected);
  CHECK(everything.peak() == 30);
  CHECK(plan.level(2) == 30);
  CHECK(plan.level(3) == 20);
  CHECK(plan.level(4) == 30);
  const Schedule schedule = tide::write_schedule(plan, {});
  CHECK(validate(trace, schedule).empty());
}

void change_by_chance(Retention& plan, const StepTrace& trace, std::mt19937& random) {
  const auto v = static_cast<tide::ValueId>(random() % trace.storages.size());
  const std::vector<tide::Presence>& all = plan.presences(v);
  if (all.size() < 2) return;
  const std::size_t from = random() % (all.size() - 1);
  const bool is_held = random() % 3 == 0;
  // As the search does: what lies on the host stays there, and what comes back is held.
  if (all[from].is_moved || all[from].is_fetched || all[from + 1].is_fetched) return;
  if (is_held && !all[from + 1].is_used) return;
  const Retention::Mark mark = plan.mark();
  plan.set_held(v, from, from + 1, is_held);
  if (!plan.settle(random() % 3 == 0) || random() % 4 == 0) plan.undo(mark);
}

TEST_CASE("plans with values on the host are simulated as they were planned, and never wait",
          "[offload][property]") {
  int offloading = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const StepTrace trace =
        with_rate(seed % 2 == 0 ? test::RandomTrace(seed).trace() : test::layered_step(15, seed),
                  seed % 2 == 0 ? 1e9 : 200e9);
    const StepGraph graph(trace);
    const Retention everything(graph);
    const Bytes own = everything.peak() - graph.static_bytes();
    const OffloadChoice choice(graph, everything, *tide::offload_rates(trace), 0);
    const Bytes host_budget = seed % 3 == 0 ? own / 4 : any_bytes;
    const std::vector<Offload> offloads =
        choice.choose(graph.static_bytes() + own / 2, host_budget);
    if (!offloads.empty()) ++offloading;
    Retention plan(graph, offloads);
    for (int change = 0; change < 24; ++change) {
      change_by_chance(plan, trace, random);
      if (change % 8 != 0) continue;
      const Schedule schedule = tide::write_schedule(plan, {});
      const std::vector<Violation> violations = validate(trace, schedule);
      if (!violations.empty()) FAIL(violations.front().message);
      const StepFigures figures = simulate(trace, schedule).figures;
      CHECK(figures.live_peak_bytes == plan.peak());
      CHECK(figures.host_peak_bytes <= host_budget);
      if (!figures.step_seconds) continue;
      const double expected =
          1e-9 * static_cast<double>(graph.total_nanoseconds() + plan.repeated_nanoseconds());
      CHECK(*figures.step_seconds == Approx(expected).epsilon(1e-9));
    }
  }
  CHECK(offloading > 40);
}

TEST_CASE("offload makes plans faster, keeps both budgets, and more of either is never slower",
          "[offload][property]") {
  std::vector<StepTrace> steps{test::transformer_step(3), test::resnet_step({1, 1}),
                               test::layered_step(30, 3)};
  for (StepTrace& step : steps) {
    INFO(step.ops.size() << " operators");
    step = with_rate(std::move(step), 50e9);
    double slowest = std::numeric_limits<double>::infinity();
    int faster = 0;
    for (const double part : {0.35, 0.4, 0.47, 0.55, 0.62, 0.7, 0.85}) {
      INFO("part " << part);
      const Bytes budget = budget_at(step, part);
      const std::optional<Plan> alone = plan(step, budget, 0);
      const Bytes host_budget = budget / 2;
      const std::optional<Plan> both = plan(step, budget, host_budget);
      if (!alone) continue;
      REQUIRE(both);
      const StepFigures& figures = both->prediction.figures;
      CHECK(figures.live_peak_bytes <= budget);
      CHECK(figures.host_peak_bytes <= host_budget);
      CHECK(*figures.step_seconds <= *alone->prediction.figures.step_seconds);
      CHECK(*both->lower_bound_seconds <= *figures.step_seconds);
      CHECK(*both->lower_bound_seconds <= *alone->lower_bound_seconds);
      if (*figures.step_seconds < *alone->prediction.figures.step_seconds) ++faster;
      CHECK(*figures.step_seconds <= slowest);
      slowest = *figures.step_seconds;
    }
    CHECK(faster > 0);
  }
}

TEST_CASE("a trace without bandwidths offloads nothing", "[offload]") {
  const StepTrace trace = test::transformer_step(2);
  REQUIRE_FALSE(tide::offload_rates(trace));
  const std::optional<Plan> found = plan(trace, budget_at(trace, 0.6), any_bytes);
  REQUIRE(found);
  CHECK(found->prediction.figures.host_peak_bytes == 0);
}

TEST_CASE("with offload too, bounds hold for every schedule of tiny steps", "[offload][property]") {
  using test::ExhaustiveOffload;
  constexpr double bytes_per_nanosecond = 0.02;
  int compared = 0;
  int helped = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const StepTrace trace = with_rate(test::tiny_step(seed), 1e9 * bytes_per_nanosecond);
    const Bytes low = lower_bound_on_peak(trace).bytes;
    const Bytes high = simulate(trace, plain_schedule(trace)).figures.live_peak_bytes;
    for (const Bytes budget : {low, low + (high - low) / 2}) {
      for (const Bytes host_budget : {Bytes{60}, any_bytes}) {
        INFO("seed " << seed << " budget " << budget << " host " << host_budget);
        PlanRequest request;
        request.budget_bytes = budget;
        request.host_budget_bytes = host_budget;
        ExhaustiveOffload any(trace, ExhaustiveOffload::Order::any, bytes_per_nanosecond);
        ExhaustiveOffload in_order(trace, ExhaustiveOffload::Order::recorded, bytes_per_nanosecond);
        const std::optional<double> best = any.least_time(budget, host_budget);
        if (best) {
          CHECK(*lower_bound_seconds(trace, request) * 1e9 <= *best + 0.5);
          ++compared;
        }
        const std::optional<double> best_in_order = in_order.least_time(budget, host_budget);
        const std::optional<double> without = in_order.least_time(budget, 0);
        if (best_in_order && without) CHECK(*best_in_order <= *without);
        if (best_in_order && (!without || *best_in_order < *without - 0.5)) ++helped;
        const std::optional<Plan> found = plan(trace, budget, host_budget);
        if (found && best_in_order) {
          CHECK(*found->prediction.figures.step_seconds * 1e9 >= *best_in_order - 0.5);
        }
      }
    }
  }
  CHECK(compared >= 12);
  CHECK(helped > 0);
}

}  // namespace
}  // namespace tidemark
