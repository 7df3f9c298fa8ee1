#include "calibrate.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;
using Call = std::function<void()>;

// One call of a kind of work: how much it does, and how to make what it needs.
struct Measurable {
  double amount = 0;  // floating-point operations, or bytes for memory
  std::function<Call(const at::TensorOptions&)> prepare;
};

double square_matmul_operations(std::int64_t size) {
  const auto n = static_cast<double>(size);
  return 2 * n * n * n;
}

Measurable matmul(std::int64_t size) {
  return {square_matmul_operations(size), [size](const at::TensorOptions& options) -> Call {
            const at::Tensor a = at::ones({size, size}, options);
            return [a, b = at::ones_like(a), out = at::empty_like(a)]() mutable {
              at::mm_out(out, a, b);
            };
          }};
}

Measurable convolution(std::int64_t images) {
  constexpr std::int64_t channels = 64;
  constexpr std::int64_t side = 28;
  constexpr std::int64_t window = 3;
  const auto amount =
      static_cast<double>(2 * images * channels * channels * side * side * window * window);
  return {amount, [images](const at::TensorOptions& options) -> Call {
            const at::Tensor x = at::ones({images, channels, side, side}, options);
            const at::Tensor weight = at::ones({channels, channels, window, window}, options);
            return [x, weight] { (void)at::conv2d(x, weight, {}, 1, 1); };
          }};
}

Measurable attention(std::int64_t length) {
  constexpr std::int64_t heads = 16;
  constexpr std::int64_t width = 64;
  const auto amount = static_cast<double>(4 * heads * length * length * width);
  return {amount, [length](const at::TensorOptions& options) -> Call {
            const at::Tensor q = at::ones({1, heads, length, width}, options);
            return [q] { (void)at::scaled_dot_product_attention(q, q, q); };
          }};
}

// Reads twice and writes once.
Measurable addition(std::int64_t bytes) {
  return {static_cast<double>(bytes), [bytes](const at::TensorOptions& options) -> Call {
            const auto element = static_cast<std::int64_t>(options.dtype().itemsize());
            const at::Tensor a = at::ones({bytes / 3 / element}, options);
            return [a, b = at::ones_like(a), out = at::empty_like(a)]() mutable {
              at::add_out(out, a, b);
            };
          }};
}

struct WorkRow {
  Work work;
  std::vector<Measurable> calls;
};

std::vector<WorkRow> measured_work() {
  std::vector<WorkRow> rows{
      {Work::matmul, {}}, {Work::convolution, {}}, {Work::attention, {}}, {Work::memory, {}}};
  for (std::int64_t n = 128; n <= 8192; n *= 2) rows[0].calls.push_back(matmul(n));
  for (std::int64_t n = 1; n <= 256; n *= 4) rows[1].calls.push_back(convolution(n));
  for (std::int64_t n = 128; n <= 8192; n *= 2) rows[2].calls.push_back(attention(n));
  for (std::int64_t n = 1 << 16; n <= std::int64_t{1} << 30; n *= 4) {
    rows[3].calls.push_back(addition(n));
  }
  return rows;
}

class Calibration {
 public:
  Calibration(Backend& backend, const CalibrationEffort& effort)
      : backend_(backend), effort_(effort) {}

  void measure_curves(MachineRates& rates) {
    const std::vector<ScalarType> types =
        backend_.device().is_cpu()
            ? std::vector{ScalarType::float32, ScalarType::bfloat16}
            : std::vector{ScalarType::float32, ScalarType::bfloat16, ScalarType::float16};
    for (const WorkRow& row : measured_work()) {
      const double largest =
          row.work == Work::memory ? effort_.largest_bytes : effort_.largest_operations;
      for (const ScalarType type : types) {
        RateCurve curve{.work = row.work, .dtype = type, .points = {}};
        for (const Measurable& call : row.calls) {
          if (call.amount > largest) break;
          const auto options = at::TensorOptions().dtype(to_torch(type)).device(backend_.device());
          const double seconds = seconds_per_call(call.prepare(options));
          curve.points.push_back({.amount = call.amount, .per_second = call.amount / seconds});
        }
        backend_.empty_caches();
        rates.curves.push_back(std::move(curve));
      }
    }
  }

  // A call that does next to nothing, one after the other without waiting.
  [[nodiscard]] double launch_seconds() {
    at::Tensor one = at::ones({1}, at::TensorOptions().device(backend_.device()));
    return seconds_per_call([one]() mutable { one.add_(1); });
  }

  [[nodiscard]] double copy_within_device() {
    const c10::Storage from = allocate_storage(backend_.device(), copied_bytes());
    const c10::Storage to = allocate_storage(backend_.device(), copied_bytes());
    return rate([&](StepId step, CopyQueues& queues) {
      queues.copy(step, {.queue = Queue::compute,
                         .to = to.mutable_data(),
                         .from = from.data(),
                         .bytes = static_cast<std::size_t>(copied_bytes())});
    });
  }

  [[nodiscard]] TransferRates transfers(bool together) {
    return {.pinned_to_device = transfer(Place::host_pinned, true, together),
            .pinned_to_host = transfer(Place::host_pinned, false, together),
            .pageable_to_device = transfer(Place::host_pageable, true, together),
            .pageable_to_host = transfer(Place::host_pageable, false, together)};
  }

 private:
  using IssueCopy = std::function<void(StepId, CopyQueues&)>;

  [[nodiscard]] Bytes copied_bytes() const {
    return std::min(Bytes{256} << 20, static_cast<Bytes>(effort_.largest_bytes));
  }

  // Twice as many calls until they take long enough to be timed.
  [[nodiscard]] double seconds_per_call(const Call& call) {
    call();
    call();
    for (std::int64_t calls = 1;; calls *= 2) {
      backend_.synchronize();
      const Clock::time_point begin = Clock::now();
      for (std::int64_t i = 0; i < calls; ++i) call();
      backend_.synchronize();
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (seconds >= effort_.seconds_per_point) return seconds / static_cast<double>(calls);
    }
  }

  [[nodiscard]] double rate(const IssueCopy& issue) {
    const std::unique_ptr<CopyQueues> queues = backend_.make_queues();
    std::int32_t step = 0;
    const double seconds = seconds_per_call([&] {
      issue(static_cast<StepId>(step++), *queues);
      queues->finish();
    });
    return static_cast<double>(copied_bytes()) / seconds;
  }

  // Pinned memory on a side queue; pageable memory blocks. `together`: the same the other way round
  // at the same time, where a copy does not block.
  [[nodiscard]] double transfer(Place place, bool to_device, bool together) {
    const auto bytes = static_cast<std::size_t>(copied_bytes());
    const std::array<c10::Storage, 2> device{allocate_storage(backend_.device(), copied_bytes()),
                                             allocate_storage(backend_.device(), copied_bytes())};
    const std::array<c10::DataPtr, 2> host{backend_.allocate_host(copied_bytes(), place),
                                           backend_.allocate_host(copied_bytes(), place)};
    const bool is_pinned = place == Place::host_pinned;
    const auto copy = [&](std::size_t buffer, bool forth, Queue queue) {
      return MemoryCopy{.queue = is_pinned ? queue : Queue::compute,
                        .to = forth ? device[buffer].mutable_data() : host[buffer].get(),
                        .from = forth ? host[buffer].get() : device[buffer].data(),
                        .bytes = bytes,
                        .to_place = forth ? Place::device : place,
                        .from_place = forth ? place : Place::device};
    };
    return rate([&](StepId step, CopyQueues& queues) {
      queues.copy(step, copy(0, to_device, Queue::fetch));
      if (together && is_pinned) queues.copy(step, copy(1, !to_device, Queue::offload));
    });
  }

  Backend& backend_;
  CalibrationEffort effort_;
};

}  // namespace

CalibrationEffort effort_for(const Backend& backend) {
  if (backend.device().is_cpu()) {
    return {.seconds_per_point = 0.02, .largest_operations = 2e10, .largest_bytes = 3e8};
  }
  return {.seconds_per_point = 0.02, .largest_operations = 2e12, .largest_bytes = 2e9};
}

MachineRates calibrate(Backend& backend, const std::string& name, DeviceKind kind,
                       const CalibrationEffort& effort) {
  if (!backend.computes()) {
    throw DeviceError(
        "kernels do nothing on a phantom GPU, so it achieves no rates; calibrate a real device");
  }
  const at::NoGradGuard no_grad;
  MachineRates rates;
  rates.name = name;
  rates.kind = kind;
  Calibration calibration(backend, effort);
  rates.launch_seconds = calibration.launch_seconds();
  calibration.measure_curves(rates);
  rates.copy_bytes_per_second = calibration.copy_within_device();
  if (!backend.device().is_cpu()) {
    rates.transfer_rates = calibration.transfers(/*together=*/false);
    rates.transfer_rates_together = calibration.transfers(/*together=*/true);
  }
  backend.empty_caches();
  return rates;
}

}  // namespace tidemark
