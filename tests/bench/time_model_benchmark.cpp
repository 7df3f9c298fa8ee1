// The time model's error on a CPU: rates are measured here, by matrix products, convolutions,
// attention and additions of several sizes; then each recorded operator's time is set beside the
// modelled one. Prints both, by kind of work and for the whole step.
//
//   time_model_benchmark MODEL.pt2...
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "median.hpp"
#include "tidemark/device.hpp"
#include "tidemark/io.hpp"
#include "tidemark/time_model.hpp"

namespace {

using tidemark::bench::median;

using namespace tidemark;

// Median seconds of one call, over a twentieth of a second of calls.
double seconds_of(const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  call();
  std::vector<double> times;
  for (const auto end = Clock::now() + std::chrono::milliseconds(50);
       times.size() < 3 || Clock::now() < end;) {
    const auto begin = Clock::now();
    call();
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return median(times);
}

RateCurve matmul_curve() {
  RateCurve curve{.work = Work::matmul, .dtype = ScalarType::float32, .points = {}};
  for (const std::int64_t n : {16, 32, 64, 128, 256, 512}) {
    const at::Tensor a = at::rand({n, n});
    const at::Tensor b = at::rand({n, n});
    const double operations = 2.0 * static_cast<double>(n * n * n);
    curve.points.push_back({operations, operations / seconds_of([&] { (void)at::mm(a, b); })});
  }
  return curve;
}

RateCurve convolution_curve() {
  RateCurve curve{.work = Work::convolution, .dtype = ScalarType::float32, .points = {}};
  for (const std::int64_t n : {4, 8, 16, 32, 64}) {
    const at::Tensor input = at::rand({2, n, n, n});
    const at::Tensor weight = at::rand({n, n, 3, 3});
    const double operations = 2.0 * static_cast<double>(2 * n * n * n * n * 9);
    const double seconds = seconds_of([&] { (void)at::conv2d(input, weight, {}, {1, 1}, {1, 1}); });
    curve.points.push_back({operations, operations / seconds});
  }
  return curve;
}

RateCurve attention_curve() {
  RateCurve curve{.work = Work::attention, .dtype = ScalarType::float32, .points = {}};
  for (const std::int64_t length : {16, 64, 256}) {
    const at::Tensor query = at::rand({2, 4, length, 32});
    const double operations = 2.0 * static_cast<double>(2 * 4 * length * length * (32 + 32));
    const double seconds = seconds_of(
        [&] { (void)at::_scaled_dot_product_flash_attention_for_cpu(query, query, query); });
    curve.points.push_back({operations, operations / seconds});
  }
  return curve;
}

RateCurve memory_curve() {
  RateCurve curve{.work = Work::memory, .dtype = ScalarType::float32, .points = {}};
  for (std::int64_t n = 1000; n <= 10'000'000; n *= 10) {
    const at::Tensor a = at::rand({n});
    const at::Tensor b = at::rand({n});
    const double bytes = 12.0 * static_cast<double>(n);
    curve.points.push_back({bytes, bytes / seconds_of([&] { (void)at::add(a, b); })});
  }
  return curve;
}

MachineRates measured_rates() {
  const at::Tensor one = at::rand({1});
  return {.name = "this processor",
          .kind = DeviceKind::cpu,
          .launch_seconds = seconds_of([&] { (void)at::add(one, one); }),
          .curves = {matmul_curve(), convolution_curve(), attention_curve(), memory_curve()}};
}

struct Times {
  double recorded = 0;
  double modelled = 0;
};

void print(const char* what, const Times& times) {
  std::printf("  %-12s recorded %9.3f ms, modelled %9.3f ms, error %+6.1f %%\n", what,
              1e3 * times.recorded, 1e3 * times.modelled,
              100 * (times.modelled / times.recorded - 1));
}

void judge(const std::string& path, const MachineRates& rates) {
  const Program program = read_program(path);
  const StepTrace trace = make_device("cpu")->record(program, {.timing_replays = 7}).trace;
  std::array<Times, work_count> by_work;
  Times all;
  std::vector<double> factors;  // of each operator, above 1 whichever way it is off
  for (const Op& op : trace.ops) {
    const double recorded = seconds(op.duration);
    const double modelled = seconds(modelled_duration(trace, op, rates));
    for (Times* sum : {&all, &by_work[static_cast<std::size_t>(work_of(trace, op).work)]}) {
      sum->recorded += recorded;
      sum->modelled += modelled;
    }
    if (recorded > 0) factors.push_back(std::exp(std::abs(std::log(modelled / recorded))));
  }
  std::printf("%s: %zu operators, half of them within a factor of %.2f\n", path.c_str(),
              trace.ops.size(), median(factors));
  for (std::size_t w = 0; w < work_count; ++w) {
    const std::string title(name(static_cast<Work>(w)));
    if (by_work[w].recorded > 0) print(title.c_str(), by_work[w]);
  }
  print("whole step", all);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: time_model_benchmark MODEL.pt2...\n");
    return 2;
  }
  const MachineRates rates = measured_rates();
  for (const RateCurve& curve : rates.curves) {
    const bool moves = curve.work == Work::memory;
    std::printf("%s, from small to large:", std::string(name(curve.work)).c_str());
    for (const RatePoint& point : curve.points) std::printf(" %.2f", point.per_second / 1e9);
    std::printf(moves ? " GB/s\n" : " Gflop/s\n");
  }
  std::printf("launch %.2f us\n", 1e6 * rates.launch_seconds);
  for (int i = 1; i < argc; ++i) judge(argv[i], rates);
}
