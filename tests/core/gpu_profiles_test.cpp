#include <catch2/catch.hpp>
#include <set>

#include "tidemark/errors.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {
namespace {

TEST_CASE("every profile is complete and its figures agree with each other", "[gpu_profiles]") {
  std::set<std::string> names;
  for (const GpuProfile& profile : gpu_profiles()) {
    INFO(profile.name);
    CHECK(names.insert(profile.name).second);
    CHECK(&gpu_profile(profile.name) == &profile);
    CHECK_FALSE(profile.device_name.empty());
    CHECK(profile.compute_capability >= ComputeCapability{7, 5});
    CHECK(profile.limits == kernel_limits(profile.compute_capability));
    CHECK(profile.context_memory > 0);
    CHECK(profile.context_memory < profile.total_memory / 20);
    // A double-data-rate bus moves two words a clock; data sheets round within 3 %.
    const double from_bus = static_cast<double>(profile.memory_clock_khz) * 1e3 * 2 *
                            static_cast<double>(profile.memory_bus_bits) / 8;
    CHECK(profile.memory_bytes_per_second == Approx(from_bus).epsilon(0.03));
    CHECK(profile.pinned.to_device > profile.pageable.to_device);
    CHECK(profile.pinned.from_device > profile.pageable.from_device);
    CHECK(profile.dense.fp64 > 0);
    CHECK(profile.dense.fp32 >= profile.dense.fp64);
    CHECK(profile.dense.tf32 >= profile.dense.fp32);
    CHECK(profile.dense.fp16 == Approx(2 * profile.dense.tf32).epsilon(0.02));
    // fp8 came with compute capability 8.9.
    CHECK((profile.dense.fp8 > 0) == (profile.compute_capability >= ComputeCapability{8, 9}));
  }
}

TEST_CASE("fp32 rates follow from multiprocessors and clock", "[gpu_profiles]") {
  for (const GpuProfile& profile : gpu_profiles()) {
    INFO(profile.name);
    // 128 fused multiply-adds a clock on Ada and Hopper, 64 on the A100.
    const double lanes = profile.compute_capability == ComputeCapability{8, 0} ? 64 : 128;
    const double peak =
        profile.multiprocessors * lanes * 2 * static_cast<double>(profile.clock_khz) * 1e3;
    CHECK(profile.dense.fp32 == Approx(peak).epsilon(0.02));
  }
}

TEST_CASE("an unknown profile is refused with the known ones", "[gpu_profiles]") {
  CHECK_THROWS_AS(gpu_profile("h300"), UsageError);
  CHECK_THROWS_WITH(gpu_profile(""),
                    Catch::Contains("h200, h100-80g, a100-80g") && Catch::Contains("custom:FILE"));
}

}  // namespace
}  // namespace tidemark
