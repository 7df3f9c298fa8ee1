// Torch has a CHECK of its own, which Catch's replaces: its headers come first.
// clang-format off
#include "activity_times.hpp"
#include "cuda_timers.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>
// clang-format on

namespace tidemark {
namespace {

template <typename Record>
Record timed(CUpti_ActivityKind kind, std::uint32_t correlation, std::uint64_t begin,
             std::uint64_t end) {
  Record record{};
  record.kind = kind;
  record.correlationId = correlation;
  record.start = begin;
  record.end = end;
  return record;
}

auto kernel(std::uint32_t correlation, std::uint64_t begin, std::uint64_t end) {
  return timed<CUpti_ActivityKernel10>(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, correlation, begin,
                                       end);
}

auto copy(std::uint32_t correlation, std::uint64_t begin, std::uint64_t end) {
  return timed<CUpti_ActivityMemcpy6>(CUPTI_ACTIVITY_KIND_MEMCPY, correlation, begin, end);
}

auto fill(std::uint32_t correlation, std::uint64_t begin, std::uint64_t end) {
  return timed<CUpti_ActivityMemset4>(CUPTI_ACTIVITY_KIND_MEMSET, correlation, begin, end);
}

CUpti_ActivityExternalCorrelation belongs(std::uint32_t correlation, std::uint64_t step) {
  CUpti_ActivityExternalCorrelation record{};
  record.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
  record.externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
  record.externalId = step;
  record.correlationId = correlation;
  return record;
}

CUpti_ActivitySynchronization2 host_wait(std::uint64_t begin, std::uint64_t end) {
  CUpti_ActivitySynchronization2 record{};
  record.kind = CUPTI_ACTIVITY_KIND_SYNCHRONIZATION;
  record.start = begin;
  record.end = end;
  return record;
}

template <typename Record>
void add(ActivityTimes& times, const Record& record) {
  times.add(reinterpret_cast<const CUpti_Activity&>(record));  // NOLINT: as CUPTI hands them out
}

TEST_CASE("records are joined to the steps that launched them, whichever comes first",
          "[activity_times]") {
  ActivityTimes times;
  // Step 0 launches a kernel of 30 and one of 20 behind a gap of 10; step 1 copies beside the
  // second kernel; step 2 launches nothing; step 3 fills.
  add(times, kernel(7, 100, 130));
  add(times, belongs(7, 1));
  add(times, belongs(8, 1));
  add(times, kernel(8, 140, 160));
  add(times, copy(9, 150, 190));
  add(times, belongs(9, 2));
  add(times, fill(10, 200, 205));
  add(times, belongs(10, 4));
  add(times, host_wait(90, 210));
  times.add_dropped(2);
  const ActivitySummary summary = times.summary(4);
  REQUIRE(summary.steps.size() == 4);
  const StepActivity kernels{.kernel = Nanoseconds(50),
                             .copy = Nanoseconds(0),
                             .kernels = 2,
                             .begin = Nanoseconds(100),
                             .end = Nanoseconds(160)};
  const StepActivity copied{.kernel = Nanoseconds(0),
                            .copy = Nanoseconds(40),
                            .kernels = 0,
                            .begin = Nanoseconds(150),
                            .end = Nanoseconds(190)};
  CHECK(summary.steps[0] == kernels);
  CHECK(summary.steps[1] == copied);
  CHECK(summary.steps[2] == StepActivity{});
  CHECK(summary.steps[3].copy == Nanoseconds(5));
  CHECK(summary.kernel == Nanoseconds(50));
  CHECK(summary.copy == Nanoseconds(45));
  CHECK(summary.overlap == Nanoseconds(10));
  CHECK(summary.idle == Nanoseconds(10 + 10));
  CHECK(summary.synchronization == Nanoseconds(120));
  CHECK(summary.unjoined == 0);
  CHECK(summary.dropped == 2);

  const std::vector<Nanoseconds> begins = begins_of(summary.steps);
  const std::vector<Nanoseconds> expected{Nanoseconds(100), Nanoseconds(150), Nanoseconds(200),
                                          Nanoseconds(200), Nanoseconds(205)};
  CHECK((begins == expected));
}

TEST_CASE("what belongs to no step, or did not finish, is not counted as a step's",
          "[activity_times]") {
  ActivityTimes times;
  add(times, kernel(1, 10, 20));  // of nobody
  add(times, kernel(2, 30, 40));
  add(times, belongs(2, 9));  // of a step that is not there
  add(times, kernel(3, 50, 0));
  add(times, belongs(3, 1));
  add(times, kernel(4, 70, 60));
  add(times, belongs(4, 1));
  const ActivitySummary summary = times.summary(1);
  CHECK(summary.unjoined == 2);
  CHECK(summary.untimed == 2);
  CHECK(summary.steps[0] == StepActivity{});
  CHECK(summary.kernel == Nanoseconds(20));
  CHECK(summary.idle == Nanoseconds(10));
}

TEST_CASE("no records are no times", "[activity_times]") {
  const ActivitySummary summary = ActivityTimes().summary(2);
  CHECK((summary.steps == std::vector<StepActivity>(2)));
  CHECK(summary.idle == Nanoseconds(0));
  CHECK((begins_of(summary.steps) == std::vector<Nanoseconds>(3, Nanoseconds(0))));
}

TEST_CASE("times in which something ran are those of a count nanosecond by nanosecond",
          "[activity_times]") {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    ActivityTimes times;
    constexpr std::size_t span = 200;
    std::vector<int> kernels(span, 0);
    std::vector<int> copies(span, 0);
    std::size_t first = span;
    std::size_t last = 0;
    for (std::uint32_t i = 1; i <= 12; ++i) {
      const std::size_t begin = random() % (span - 1);
      const std::size_t end = begin + 1 + random() % (span - begin - 1);
      const bool is_kernel = random() % 2 == 0;
      if (is_kernel) {
        add(times, kernel(i, 1000 + begin, 1000 + end));
      } else {
        add(times, copy(i, 1000 + begin, 1000 + end));
      }
      for (std::size_t t = begin; t < end; ++t) ++(is_kernel ? kernels : copies)[t];
      first = std::min(first, begin);
      last = std::max(last, end);
    }
    ActivitySummary expected;
    for (std::size_t t = first; t < last; ++t) {
      if (kernels[t] > 0) ++expected.kernel;
      if (copies[t] > 0) ++expected.copy;
      if (kernels[t] > 0 && copies[t] > 0) ++expected.overlap;
      if (kernels[t] == 0 && copies[t] == 0) ++expected.idle;
    }
    expected.unjoined = 12;
    REQUIRE(times.summary(0) == expected);
  }
}

}  // namespace
}  // namespace tidemark
