#include "calibrate.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calibrated_calls.hpp"
#include "call_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;
using Call = std::function<void()>;  // what is timed

// What calls read: one piece of memory larger than the caches, cut into operands again and again.
class Arena {
 public:
  Arena(const at::TensorOptions& options, double bytes) {
    constexpr std::int64_t drawn = 1 << 20;
    const auto element = static_cast<double>(options.dtype().itemsize());
    const auto count = static_cast<std::int64_t>(bytes / element);
    values_ = at::rand({drawn}, options).repeat({(count + drawn - 1) / drawn});
  }

  [[nodiscard]] bool holds(const CalibratedSize& call) const {
    return operand_bytes(call) <= static_cast<double>(values_.nbytes());
  }

  [[nodiscard]] double operand_bytes(const CalibratedSize& call) const {
    double together = 0;
    for (const auto& sizes : call.operands) {
      together += static_cast<double>(c10::multiply_integers(sizes));
    }
    return together * static_cast<double>(values_.itemsize());
  }

  [[nodiscard]] std::vector<at::Tensor> cut(const CalibratedSize& call) {
    std::vector<at::Tensor> operands;
    for (const auto& sizes : call.operands) {
      const std::int64_t count = c10::multiply_integers(sizes);
      if (at_ + count > values_.numel()) at_ = 0;
      operands.push_back(values_.narrow(0, at_, count).view(sizes));
      at_ += count;
    }
    return operands;
  }

 private:
  at::Tensor values_;
  std::int64_t at_ = 0;
};

// Whatever else the machine does makes a batch slower, never faster: the second fastest.
double least_disturbed(std::vector<double> times) {
  std::nth_element(times.begin(), times.begin() + 1, times.end());
  return times[1];
}

class Calibration {
 public:
  Calibration(Backend& backend, const CalibrationEffort& effort)
      : backend_(backend), effort_(effort) {}

  // From here on results lie in memory that the process already has, as in every step but the
  // first.
  void touch_memory() {
    constexpr double block = 4 << 20;
    std::vector<at::Tensor> blocks;
    for (double touched = 0; touched < 2 * effort_.cache_bytes; touched += block) {
      blocks.push_back(at::ones({static_cast<std::int64_t>(block)}, options(ScalarType::int8)));
    }
  }

  void measure_curves(MachineRates& rates) {
    const std::vector<ScalarType> types =
        backend_.device().is_cpu()
            ? std::vector{ScalarType::float32, ScalarType::bfloat16}
            : std::vector{ScalarType::float32, ScalarType::bfloat16, ScalarType::float16};
    for (const ScalarType type : types) {
      Arena arena(options(type), effort_.largest_bytes);
      for (const CalibratedCurve& calls : calibrated_curves(element_bytes(type))) {
        RateCurve curve = measure(calls, arena);
        curve.dtype = type;
        if (!curve.points.empty()) rates.curves.push_back(std::move(curve));
        backend_.empty_caches();
      }
    }
  }

  // A call that does next to nothing, one after the other without waiting.
  [[nodiscard]] double launch_seconds() {
    Arena arena(options(ScalarType::float32), effort_.cache_bytes);
    return seconds_per_call(
        {.amount = 1,
         .operands = {{1}, {1}},
         .bind = [](const auto& t) { return [t] { return at::add(t[0], t[1]); }; }},
        arena);
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

  [[nodiscard]] at::TensorOptions options(ScalarType type) const {
    return at::TensorOptions().dtype(to_torch(type)).device(backend_.device());
  }

  [[nodiscard]] bool is_too_large(const CalibratedSize& call, Work work, const Arena& arena) const {
    const bool is_product = work < Work::memory;
    return !arena.holds(call) || (is_product && call.amount > effort_.largest_operations);
  }

  // Larger and larger calls, until the next would take too long.
  [[nodiscard]] RateCurve measure(const CalibratedCurve& calls, Arena& arena) {
    RateCurve curve{.work = calls.work, .width = calls.width, .points = {}};
    for (const CalibratedSize& call : calls.sizes) {
      if (is_too_large(call, calls.work, arena)) break;
      if (!curve.points.empty() &&
          call.amount / curve.points.back().per_second > effort_.longest_call_seconds) {
        break;
      }
      const double seconds = seconds_per_call(call, arena);
      curve.points.push_back({.amount = call.amount, .per_second = call.amount / seconds});
    }
    return curve;
  }

  // So many pieces of that size that a piece is out of the caches when its turn comes again, but no
  // more than a step may have: of small tensors it finds some in the caches.
  [[nodiscard]] std::size_t more_than_cached(double bytes) const {
    constexpr double most = 64;
    return static_cast<std::size_t>(
        std::clamp(std::ceil(effort_.cache_bytes / std::max(1.0, bytes)), 2.0, most));
  }

  // As a step makes its calls: each on other operands, its result in memory that was not used for a
  // while. A processor would have both in its caches if one call were simply repeated.
  [[nodiscard]] double seconds_per_call(const CalibratedSize& size, Arena& arena) {
    const std::size_t operands = more_than_cached(arena.operand_bytes(size));
    std::vector<CalibratedCall> calls;
    while (calls.size() < operands) calls.push_back(size.bind(arena.cut(size)));
    const at::Tensor first = calls.front()();
    std::vector<at::Tensor> made(more_than_cached(static_cast<double>(first.nbytes())));
    std::size_t next = 0;
    return seconds_per_call(
        [&] {
          made[next % made.size()] = calls[next % calls.size()]();
          ++next;
        },
        calls.size());
  }

  [[nodiscard]] double seconds_of(const Call& call, std::size_t repetitions) {
    backend_.synchronize();
    const Clock::time_point begin = Clock::now();
    for (std::size_t i = 0; i < repetitions; ++i) call();
    backend_.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  // From a few batches. Before them, as many calls as it takes to warm up, and for as long
  // as they do not take too long.
  [[nodiscard]] double seconds_per_call(const Call& call, std::size_t warm_up) {
    constexpr std::size_t batches = 5;
    const double enough = effort_.seconds_per_point / batches;
    double seconds = 0;
    std::size_t repetitions = 1;
    for (std::size_t done = 0;; done += repetitions, repetitions *= 2) {
      seconds = seconds_of(call, repetitions);
      const bool is_warm = done + repetitions > warm_up || seconds > effort_.seconds_per_point;
      if (done > 0 && is_warm && seconds >= enough) break;
    }
    repetitions =
        static_cast<std::size_t>(std::ceil(enough / seconds * static_cast<double>(repetitions)));
    std::vector<double> times;
    for (std::size_t b = 0; b < batches; ++b) times.push_back(seconds_of(call, repetitions));
    return least_disturbed(std::move(times)) / static_cast<double>(repetitions);
  }

  [[nodiscard]] double rate(const IssueCopy& issue) {
    const std::unique_ptr<CopyQueues> queues = backend_.make_queues();
    std::int32_t step = 0;
    const double seconds = seconds_per_call(
        [&] {
          issue(static_cast<StepId>(step++), *queues);
          queues->finish();
        },
        1);
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
    return {.seconds_per_point = 0.01,
            .longest_call_seconds = 0.03,
            .largest_operations = 4e9,
            .largest_bytes = 3e8,
            .cache_bytes = 1e8};
  }
  return {.seconds_per_point = 0.02,
          .longest_call_seconds = 0.1,
          .largest_operations = 2e12,
          .largest_bytes = 2e9,
          .cache_bytes = 3e8};
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
  calibration.touch_memory();
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
