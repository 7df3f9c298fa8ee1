#include "tidemark/compare.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "sample_sweep.hpp"

namespace tidemark {
namespace {

using test::sample_sweep;

bool any_differs(const std::vector<ComparedRow>& rows) {
  return std::any_of(rows.begin(), rows.end(),
                     [](const ComparedRow& row) { return row.differs(); });
}

TEST_CASE("a sweep does not differ from itself", "[compare]") {
  const auto rows = compare(sample_sweep(), sample_sweep(), {});
  CHECK(rows.size() == sample_sweep().rows.size());
  CHECK_FALSE(any_differs(rows));
}

TEST_CASE("a peak differs beyond the tolerance, in either direction", "[compare]") {
  for (const Bytes change : {Bytes{1}, Bytes{-1}}) {
    Sweep other = sample_sweep();
    other.rows[0].predicted->live_peak_bytes = 100'000 * (1000 + 5 * change);
    Sweep first = sample_sweep();
    first.rows[0].predicted->live_peak_bytes = 100'000'000;
    CHECK(any_differs(compare(first, other, {})));
    CHECK(any_differs(compare(first, other, {.bytes_percent = 0.49, .time_percent = {}})));
    CHECK_FALSE(any_differs(compare(first, other, {.bytes_percent = 0.51, .time_percent = {}})));
  }
}

TEST_CASE("times are judged only when asked for", "[compare]") {
  Sweep other = sample_sweep();
  *other.rows[0].measured->figures.step_seconds *= 1.10;
  CHECK_FALSE(any_differs(compare(sample_sweep(), other, {})));
  CHECK(any_differs(compare(sample_sweep(), other, {.bytes_percent = 0, .time_percent = 9})));
  CHECK_FALSE(
      any_differs(compare(sample_sweep(), other, {.bytes_percent = 0, .time_percent = 11})));
}

TEST_CASE("a row that one side lacks differs; names of blocks and order do not", "[compare]") {
  Sweep other = sample_sweep();
  other.rows.erase(other.rows.begin() + 1);
  CHECK(any_differs(compare(sample_sweep(), other, {})));
  CHECK(any_differs(compare(other, sample_sweep(), {})));
  Sweep same = sample_sweep();
  same.rows[2].setting.segments = {{"layers.0"}, {"layers.1"}};
  std::swap(same.rows[0], same.rows[2]);
  CHECK_FALSE(any_differs(compare(sample_sweep(), same, {})));
}

TEST_CASE("a status or a verdict that changes differs, one that was not asked does not",
          "[compare]") {
  Sweep other = sample_sweep();
  other.rows[1].status = Status::ok;
  CHECK(any_differs(compare(sample_sweep(), other, {})));
  other = sample_sweep();
  other.rows[0].gradients = GradientVerdict::differ;
  const auto rows = compare(sample_sweep(), other, {});
  CHECK(rows[0].changes == std::vector<std::string>{"gradients: equal, then differ"});
  other = sample_sweep();
  for (SweepRow& row : other.rows) {
    row.measured.reset();
    row.gradients = GradientVerdict::not_run;
  }
  CHECK_FALSE(any_differs(compare(sample_sweep(), other, {})));
}

}  // namespace
}  // namespace tidemark
