#include "calibrate.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "backend_cpu.hpp"

namespace tidemark {
namespace {

TEST_CASE("a processor's calibration has a rate for every kind of work, all of them plausible",
          "[calibrate]") {
  CpuBackend backend;
  const CalibrationEffort effort{.seconds_per_point = 0.001,
                                 .longest_call_seconds = 0.01,
                                 .largest_operations = 1e8,
                                 .largest_bytes = 1e7,
                                 .cache_bytes = 1e7};
  const Bytes before = backend.meter().current_bytes();
  const MachineRates rates = calibrate(backend, "a processor", DeviceKind::cpu, effort);
  CHECK(backend.meter().current_bytes() == before);
  CHECK(rates.name == "a processor");
  CHECK(rates.kind == DeviceKind::cpu);
  CHECK(rates.launch_seconds > 1e-9);
  CHECK(rates.launch_seconds < 1e-2);
  REQUIRE(rates.copy_bytes_per_second);
  CHECK(*rates.copy_bytes_per_second > 1e7);
  CHECK_FALSE(rates.transfer_rates);
  std::set<Work> kinds;
  for (const RateCurve& curve : rates.curves) {
    REQUIRE_FALSE(curve.points.empty());
    kinds.insert(curve.work);
    CHECK(
        std::is_sorted(curve.points.begin(), curve.points.end(),
                       [](const RatePoint& a, const RatePoint& b) { return a.amount < b.amount; }));
    for (const RatePoint& point : curve.points) {
      CHECK(point.amount <= (curve.work < Work::memory ? 1e8 : 1.5e7));
      CHECK(point.per_second > 1e5);
      CHECK(point.per_second < 1e15);
    }
  }
  CHECK(kinds.size() == work_count);
}

}  // namespace
}  // namespace tidemark
