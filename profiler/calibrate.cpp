#include "calibrate.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calibrated_calls.hpp"
#include "call_values.hpp"
#include "tidemark/errors.hpp"
#include "torch_error.hpp"

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

  // Of results a few lie beside it.
  [[nodiscard]] bool holds(const CalibratedSize& call) const {
    const double made = call.made_elements * static_cast<double>(values_.itemsize());
    return std::max(operand_bytes(call), made) <= static_cast<double>(values_.nbytes());
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
    constexpr std::int64_t block_bytes = 4 << 20;
    const auto count = static_cast<std::size_t>(2 * effort_.cache_bytes / block_bytes) + 1;
    std::vector<at::Tensor> blocks(count);
    for (at::Tensor& block : blocks) block = at::ones({block_bytes}, options(ScalarType::int8));
  }

  // Work until a GPU's clocks have risen. Gives what one call of it takes then.
  [[nodiscard]] double warm_up() {
    constexpr std::int64_t side = 4096;
    const at::Tensor values = at::rand({side, side}, options(ScalarType::float32));
    const Call call = [&] { static_cast<void>(at::mm(values, values)); };
    static_cast<void>(seconds_of(call, 1));  // loads libraries and kernels
    for (double spent = 0; spent < effort_.warm_up_seconds;) spent += seconds_of(call, 4);
    return seconds_per_call(call, 1);
  }

  void measure_curves(MachineRates& rates) {
    for (const ScalarType type : measured_types()) {
      Arena arena(options(type), effort_.largest_bytes);
      for (const CalibratedCurve& calls : calibrated_curves(element_bytes(type))) {
        if (!is_measured(calls, type)) continue;
        RateCurve curve{.work = calls.work, .dtype = type, .width = calls.width, .points = {}};
        measure(calls, arena, curve, rates.notes);
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

  [[nodiscard]] std::vector<ScalarType> measured_types() const {
    if (backend_.device().is_cpu()) return {ScalarType::float32, ScalarType::bfloat16};
    return {ScalarType::float32, ScalarType::bfloat16, ScalarType::float16, ScalarType::float64};
  }

  [[nodiscard]] static bool is_attention(Work work) {
    return work == Work::attention || work == Work::attention_backward;
  }

  // In double precision models multiply, if anything. GPUs treat both half types alike, and for
  // some calls cuDNN compiles kernels, which takes a second for each size: one type will do.
  [[nodiscard]] static bool is_measured(const CalibratedCurve& calls, ScalarType type) {
    const bool is_compiled = is_attention(calls.work) || calls.width == 1;
    return type == ScalarType::float64 ? calls.work == Work::matmul
                                       : type != ScalarType::float16 || !is_compiled;
  }

  // The largest is always among them.
  [[nodiscard]] bool is_measured(const CalibratedCurve& calls, std::size_t size) const {
    const std::size_t step = is_attention(calls.work)    ? effort_.attention_step
                             : calls.work < Work::memory ? effort_.size_step
                                                         : 1;
    return (calls.sizes.size() - 1 - size) % step == 0;
  }

  // Larger and larger calls, until the next would take too long.
  void measure(const CalibratedCurve& calls, Arena& arena, RateCurve& curve,
               std::vector<std::string>& notes) {
    const auto stop = [&](const std::string& why) {
      notes.push_back(std::string(name(curve.work)) + " in " + std::string(name(curve.dtype)) +
                      (curve.points.empty() ? " was not measured: " : " ends early: ") + why);
    };
    try {
      for (std::size_t s = 0; s < calls.sizes.size(); ++s) {
        const CalibratedSize& call = calls.sizes[s];
        if (!is_measured(calls, s)) continue;
        if (is_too_large(call, calls.work, arena) || takes_too_long(call, curve)) break;
        const double seconds = seconds_per_call(call, arena);
        curve.points.push_back({.amount = call.amount, .per_second = call.amount / seconds});
      }
    } catch (const c10::OutOfMemoryError&) {
      stop(backend_.describe_out_of_memory());
    } catch (const c10::Error& error) {
      backend_.synchronize();  // throws where it is the device that fails
      stop(first_line(error));
    }
  }

  [[nodiscard]] bool takes_too_long(const CalibratedSize& call, const RateCurve& curve) const {
    return !curve.points.empty() &&
           call.amount / curve.points.back().per_second > effort_.longest_call_seconds;
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
    const auto result_bytes = static_cast<double>(calls.front()().nbytes());
    std::vector<at::Tensor> made(more_than_cached(result_bytes));
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

  // Copies of one queue follow each other without a wait of the host.
  [[nodiscard]] double rate(const IssueCopy& issue) {
    const std::unique_ptr<CopyQueues> queues = backend_.make_queues();
    std::int32_t step = 0;
    const double seconds =
        seconds_per_call([&] { issue(static_cast<StepId>(step++), *queues); }, 1);
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
    // Fresh memory of the host is all one page of zeros.
    for (const c10::DataPtr& data : host) std::memset(data.get(), 1, bytes);
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

// Of the same work before and after the measurements.
void note_drift(double before, double after, std::vector<std::string>& notes) {
  constexpr double much = 0.1;
  const double change = after / before - 1;
  if (std::abs(change) < much) return;
  notes.push_back("the same matrix product took " +
                  std::to_string(std::lround(100 * std::abs(change))) + " % " +
                  (change > 0 ? "longer" : "less") +
                  " after the calibration than before it: clocks changed, or something else ran; "
                  "rates are that uncertain");
}

void check_computes(const Backend& backend) {
  if (backend.computes()) return;
  throw DeviceError(
      "kernels do nothing on a phantom GPU, so it achieves no rates; calibrate a real device");
}

}  // namespace

CalibrationEffort effort_for(const Backend& backend) {
  if (backend.device().is_cpu()) {
    return {.seconds_per_point = 0.01,
            .longest_call_seconds = 0.03,
            .largest_operations = 4e9,
            .largest_bytes = 3e8,
            .cache_bytes = 1e8};
  }
  return {.seconds_per_point = 0.015,
          .longest_call_seconds = 0.1,
          .largest_operations = 2e12,
          .largest_bytes = 2e9,
          .cache_bytes = 3e8,
          .size_step = 2,
          .attention_step = 4,
          .warm_up_seconds = 0.5};
}

void load_kernels(Backend& backend) {
  check_computes(backend);
  constexpr double small = 1e8;
  const at::NoGradGuard no_grad;
  {
    Arena arena(at::TensorOptions().dtype(at::kFloat).device(backend.device()), small);
    for (const CalibratedCurve& calls : calibrated_curves(element_bytes(ScalarType::float32))) {
      const CalibratedSize& least = calls.sizes.front();
      if (arena.holds(least)) static_cast<void>(least.bind(arena.cut(least))());
    }
  }
  backend.empty_caches();
}

MachineRates calibrate(Backend& backend, const std::string& name, DeviceKind kind,
                       const CalibrationEffort& effort) {
  check_computes(backend);
  const at::NoGradGuard no_grad;
  MachineRates rates;
  rates.name = name;
  rates.kind = kind;
  Calibration calibration(backend, effort);
  const bool is_warmed_up = effort.warm_up_seconds > 0;
  const double first = is_warmed_up ? calibration.warm_up() : 0;
  calibration.touch_memory();
  rates.launch_seconds = calibration.launch_seconds();
  calibration.measure_curves(rates);
  rates.copy_bytes_per_second = calibration.copy_within_device();
  if (!backend.device().is_cpu()) {
    rates.transfer_rates = calibration.transfers(/*together=*/false);
    rates.transfer_rates_together = calibration.transfers(/*together=*/true);
  }
  if (is_warmed_up) note_drift(first, calibration.warm_up(), rates.notes);
  backend.empty_caches();
  return rates;
}

}  // namespace tidemark
