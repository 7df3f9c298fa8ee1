#include "tide/retention.hpp"

#include <catch2/catch.hpp>
#include <random>

#include "block_chain.hpp"
#include "random_trace.hpp"
#include "tide/write_schedule.hpp"
#include "tidemark/prediction.hpp"

namespace tidemark::tide {
namespace {

std::int64_t repeated_nanoseconds(const StepTrace& trace, const Schedule& schedule) {
  std::int64_t sum = 0;
  for (const Step& step : schedule.steps) {
    if (step.cause != Cause::recompute) continue;
    sum += trace.ops[index(std::get<Run>(step.action).op)].duration.count();
  }
  return sum;
}

void check_against_judges(const StepTrace& trace, const Retention& plan) {
  const Schedule schedule = write_schedule(plan, {});
  const std::vector<Violation> violations = validate(trace, schedule);
  CHECK(violations.empty());
  if (!violations.empty()) FAIL_CHECK(violations.front().message);
  CHECK(simulate(trace, schedule).figures.live_peak_bytes == plan.peak());
  CHECK(repeated_nanoseconds(trace, schedule) == plan.repeated_nanoseconds());
}

TEST_CASE("a value that is not held is made again right before its use", "[tide][retention]") {
  const test::BlockChain chain(2);
  const StepGraph graph(chain.trace());
  Retention plan(graph);
  CHECK(plan.repeated_nanoseconds() == 0);
  check_against_judges(chain.trace(), plan);

  // h0 is made by up 0, read by down 0 and by its backward: not held between them, up runs again.
  const auto h0 = static_cast<ValueId>(chain.h(0));
  REQUIRE(plan.presences(h0).size() == 3);
  plan.set_held(h0, 1, 2, false);
  REQUIRE(plan.settle());
  CHECK(plan.repeated_nanoseconds() == 10);
  check_against_judges(chain.trace(), plan);

  // Nor x0, which up 0 reads: embed runs again as well, and once more for up's own backward.
  const auto x0 = static_cast<ValueId>(chain.x(0));
  REQUIRE(plan.presences(x0).size() == 4);
  plan.set_held(x0, 1, 2, false);
  REQUIRE(plan.settle());
  CHECK(plan.repeated_nanoseconds() == 20);
  const Retention::Mark mark = plan.mark();
  plan.set_held(x0, 2, 3, false);
  REQUIRE(plan.settle());
  CHECK(plan.repeated_nanoseconds() == 30);
  check_against_judges(chain.trace(), plan);
  plan.undo(mark);
  CHECK(plan.repeated_nanoseconds() == 20);
  check_against_judges(chain.trace(), plan);
}

// Everything that may stand in a trace: operators that are random, overwrite, make several results,
// are not read, keep statistics or state, may not run again.
TEST_CASE("the incremental simulator agrees with simulate", "[tide][retention][property]") {
  int repeating = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    INFO("seed " << seed);
    const StepTrace trace = test::RandomTrace(seed).trace();
    const StepGraph graph(trace);
    Retention plan(graph);
    std::mt19937 random(seed);
    for (int change = 0; change < 30; ++change) {
      const auto v = static_cast<ValueId>(random() % trace.storages.size());
      const std::vector<Presence>& all = plan.presences(v);
      if (all.size() < 2) continue;
      const std::size_t from = random() % (all.size() - 1);
      const bool is_held = random() % 3 == 0;
      if (is_held && !all[from + 1].is_used) continue;
      const Bytes peak = plan.peak();
      const std::int64_t repeated = plan.repeated_nanoseconds();
      const Retention::Mark mark = plan.mark();
      plan.set_held(v, from, from + 1, is_held);
      const bool is_possible = plan.settle(random() % 3 == 0);
      if (!is_possible || random() % 4 == 0) {
        plan.undo(mark);
        CHECK(plan.peak() == peak);
        CHECK(plan.repeated_nanoseconds() == repeated);
      } else if (random() % 2 == 0) {
        plan.forget();
      }
      if (change % 6 == 0) check_against_judges(trace, plan);
    }
    if (plan.repeated_nanoseconds() > 0) ++repeating;
  }
  CHECK(repeating > 20);
}

}  // namespace
}  // namespace tidemark::tide
