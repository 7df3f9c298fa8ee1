// Torch has a CHECK of its own, which Catch's replaces: its headers come first.
// clang-format off
#include "cupti_session.hpp"
#include "cuda_timers.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
// clang-format on

#include "fake_cupti.hpp"
#include "fake_library.hpp"

namespace tidemark {
namespace {

FakeCupti& fake() { return test::renewed<FakeCupti>(TIDEMARK_FAKE_CUPTI, "fake_cupti"); }

constexpr std::uint64_t day = 86'400'000'000'000;

TEST_CASE("a CUPTI that refuses one kind of record records none, and says why", "[cupti]") {
  FakeCupti& cupti = fake();
  cupti.refused = CUPTI_ACTIVITY_KIND_DRIVER;
  std::string reason;
  CHECK(CuptiSession::open(reason, TIDEMARK_FAKE_CUPTI) == nullptr);
  CHECK(reason == "CUPTI gives no records here, CUPTI_ERROR_INSUFFICIENT_PRIVILEGES (35)");
  CHECK(cupti.enabled.empty());
}

TEST_CASE("without CUPTI, or beside another tool that holds it, the reason is told", "[cupti]") {
  std::string reason;
  CHECK(CuptiSession::open(reason, "libcupti.so.none") == nullptr);
  CHECK(reason == "libcupti.so.none is not there");
  CHECK(CuptiSession::open(reason, "libz.so.1") == nullptr);
  CHECK(reason == "libz.so.1 lacks what is needed of it");
  setenv("CUDA_INJECTION64_PATH", "/somewhere", 1);
  CHECK(CuptiSession::open(reason, TIDEMARK_FAKE_CUPTI) == nullptr);
  unsetenv("CUDA_INJECTION64_PATH");
  CHECK(reason == "another tool holds CUPTI (CUDA_INJECTION64_PATH is set)");
}

TEST_CASE("what was launched between start and stop is told, and nothing else", "[cupti]") {
  FakeCupti& cupti = fake();
  std::string reason;
  CuptiSession* session = CuptiSession::open(reason, TIDEMARK_FAKE_CUPTI);
  REQUIRE(session != nullptr);
  CHECK(cupti.enabled.empty());  // nothing is recorded before the first start

  cupti.now = day;
  session->start();
  session->push(1);
  cupti.launch_kernel(day + 10, day + 40);
  session->pop();
  session->push(2);
  cupti.launch_kernel(day + 50, day + 55);
  session->pop();
  cupti.launch_kernel(day + 60, day + 61);  // of no step
  cupti.dropped = 3;
  cupti.now = day + 100;
  const ActivitySummary first = session->stop(2);
  CHECK(first.steps[0].kernel == Nanoseconds(30));
  CHECK(first.steps[1].kernel == Nanoseconds(5));
  CHECK(first.unjoined == 1);
  CHECK(first.dropped == 3);
  CHECK(first.untimed == 0);

  // Launched after the stop and before the next start, of nobody's interest.
  session->push(1);
  cupti.launch_kernel(day + 110, day + 120);
  session->pop();
  cupti.now = 2 * day;
  session->start();
  session->push(1);
  cupti.launch_kernel(2 * day + 10, 2 * day + 20);
  cupti.launch_kernel(day - 7, day - 5);  // a time from before the start
  cupti.launch_kernel(0, 0);              // no time
  cupti.launch_kernel(2 * day + 40, 2 * day + 30);
  session->pop();
  cupti.now = 2 * day + 100;
  const ActivitySummary second = session->stop(1);
  CHECK(second.steps[0].kernel == Nanoseconds(10));
  CHECK(second.steps[0].kernels == 1);
  CHECK(second.steps[0].begin == Nanoseconds(2 * day + 10));
  CHECK(second.kernel == Nanoseconds(10));
  CHECK(second.idle == Nanoseconds(0));
  CHECK(second.untimed == 3);
  CHECK(second.dropped == 0);

  session->rest();
  CHECK(cupti.enabled.empty());
  cupti.refused = CUPTI_ACTIVITY_KIND_MEMSET;
  CHECK_THROWS_WITH(session->start(),
                    "CUPTI records no more: cuptiActivityEnable gives "
                    "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES (35)");
}

TEST_CASE("a step's time starts with its first step, and a failed one leaves nothing behind",
          "[cupti]") {
  FakeCupti& cupti = fake();
  std::string reason;
  CuptiSession* session = CuptiSession::open(reason, TIDEMARK_FAKE_CUPTI);
  REQUIRE(session != nullptr);
  cupti.now = day;
  {
    const auto failed = make_cupti_timer(*session, 2);
    CHECK(cupti.enabled.empty());  // what comes before the first step is not recorded
    failed->begin(StepWork::operation);
    cupti.launch_kernel(day + 1, day + 2);
  }
  CHECK(cupti.pushed.empty());
  const auto timer = make_cupti_timer(*session, 2);
  timer->begin(StepWork::operation);
  cupti.launch_kernel(day + 10, day + 30);
  timer->end(StepWork::operation);
  timer->begin(StepWork::recompute);
  cupti.launch_kernel(day + 40, day + 90);
  timer->end(StepWork::recompute);
  cupti.now = day + 100;
  const StepTimes times = timer->finish();
  CHECK(times.recompute_seconds == Approx(50e-9));
  CHECK(times.transfer_seconds == Approx(0));
  const std::vector<Nanoseconds> begins{Nanoseconds(day + 10), Nanoseconds(day + 40),
                                        Nanoseconds(day + 90)};
  CHECK((times.begins == begins));
  REQUIRE(times.notes.size() == 1);
  CHECK(times.step_seconds > 0);
}

}  // namespace
}  // namespace tidemark
