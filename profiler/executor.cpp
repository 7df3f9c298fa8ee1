#include "executor.hpp"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <sstream>
#include <utility>

#include "call_values.hpp"
#include "counting_allocator.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

Schedule plain_schedule(const StepTrace& trace) {
  auto built = build_schedule(trace, {}, Setting{});
  return std::move(std::get<BuiltSchedule>(built).schedule);
}

std::vector<BoxedCall> prepare_calls(const StepTrace& trace) {
  std::vector<BoxedCall> calls;
  calls.reserve(trace.ops.size());
  for (std::size_t o = 0; o < trace.ops.size(); ++o) calls.emplace_back(trace, make_id<OpId>(o));
  return calls;
}

template <typename Value>
Value median(std::vector<Value> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double quartile_distance(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[values.size() * 3 / 4] - values[values.size() / 4]) / 2;
}

// The term of created storages that a schedule does not name, as the simulator has it.
Term unnamed_term(const Op& op, Cause cause) {
  if (cause == Cause::recompute) return Term::recomputed_segment;
  if (op.phase == Phase::optimizer) return Term::optimizer_step;
  return op.phase == Phase::forward ? Term::activations : Term::activation_gradients;
}

template <typename Value>
double largest_difference(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  double largest = 0;
  for (std::size_t i = 0; i + sizeof(Value) <= a.size(); i += sizeof(Value)) {
    Value x{};
    Value y{};
    std::memcpy(&x, a.data() + i, sizeof(Value));
    std::memcpy(&y, b.data() + i, sizeof(Value));
    largest = std::max(largest, std::abs(static_cast<double>(x) - static_cast<double>(y)));
  }
  return largest;
}

double largest_difference(ScalarType type, const std::vector<std::uint8_t>& a,
                          const std::vector<std::uint8_t>& b) {
  if (type == ScalarType::float64) return largest_difference<double>(a, b);
  if (type == ScalarType::float16) return largest_difference<c10::Half>(a, b);
  if (type == ScalarType::bfloat16) return largest_difference<c10::BFloat16>(a, b);
  return largest_difference<float>(a, b);
}

// "3 of 40 gradients differ, first that of wte.weight, by up to 1e-06".
std::string describe_difference(const StepTrace& trace, const KeptBytes& expected,
                                const KeptBytes& actual) {
  std::string first;
  std::size_t different = 0;
  double largest = 0;
  for (const auto& [parameter, view] : trace.gradients) {
    const std::vector<std::uint8_t>& a = expected.at(view.storage);
    const std::vector<std::uint8_t>& b = actual.at(view.storage);
    if (a == b) continue;
    if (different++ == 0) first = trace.storages[index(parameter)].name;
    largest = std::max(largest, largest_difference(view.dtype, a, b));
  }
  if (different == 0) return "the loss differs";
  std::ostringstream text;
  text << different << " of " << trace.gradients.size() << " gradients differ, first that of "
       << first << ", by up to " << largest;
  return text.str();
}

}  // namespace

// One execution under way, and what it measures.
struct CpuExecution::Run {
  Run(const StepTrace& trace, const Schedule& planned, const StaticMemory& statics)
      : schedule(planned),
        memory(trace, planned, statics),
        generators(trace.ops.size()),
        numbers(planned.steps.size(), 0) {
    level_before = CountingAllocator::install().current_bytes() - statics.bytes();
    begins.reserve(planned.steps.size() + 1);
    live.reserve(planned.steps.size());
    host.reserve(planned.steps.size());
  }

  // Takes the level during the step that just ended.
  void sample(std::optional<OpId> op, const std::array<Bytes, term_count>& terms) {
    const Bytes during = CountingAllocator::install().peak_bytes() - level_before;
    live.push_back(during);
    host.push_back(memory.host_bytes());
    host_peak = std::max(host_peak, memory.host_bytes());
    if (during <= peak) return;
    peak = during;
    peak_op = op;
    peak_terms = terms;
  }

  CopyQueue& queue(Queue which) {
    std::unique_ptr<CopyQueue>& queue = queues[static_cast<std::size_t>(which)];
    if (!queue) queue = std::make_unique<CopyQueue>();
    return *queue;
  }

  const Schedule& schedule;
  ExecutionMemory memory;
  Bytes level_before = 0;                                 // counted bytes that are not this step's
  std::vector<std::optional<GeneratorState>> generators;  // by operator, as it first found it
  std::vector<std::uint64_t> numbers;  // by step: the number of its copy on a side queue
  std::vector<Clock::time_point> begins;
  std::vector<Bytes> live;
  std::vector<Bytes> host;
  Bytes peak = 0;
  Bytes host_peak = 0;
  std::optional<OpId> peak_op;
  std::array<Bytes, term_count> peak_terms{};
  Clock::duration recompute{};
  Clock::duration transfer{};
  std::atomic<std::int64_t> side_transfer_ns{0};
  Bytes transfer_bytes = 0;
  double step_seconds = 0;
  // The last members: their threads end before the memory goes.
  std::array<std::unique_ptr<CopyQueue>, queue_count> queues;
};

CpuExecution::CpuExecution(const StepTrace& trace, const FillStorage& fill)
    : trace_(trace),
      calls_(prepare_calls(trace)),
      statics_(trace, fill),
      bound_(trace.storages.size(), nullptr),
      plain_(plain_schedule(trace)) {
  try {
    Run first(trace_, plain_, statics_);
    reference_ = run_once(plain_, first);
    Run second(trace_, plain_, statics_);
    const KeptBytes again = run_once(plain_, second);
    if (again == reference_) return;
    not_comparable_ =
        "two unscheduled replays differ between themselves, since some kernels are "
        "not deterministic: " +
        describe_difference(trace_, reference_, again);
  } catch (const std::bad_alloc&) {
    // A schedule may fit where the plain step does not.
    not_comparable_ = "the unscheduled step, with which gradients are compared, has no memory";
  }
}

KeptBytes CpuExecution::run_once(const Schedule& schedule, Run& run) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowAutograd below_autograd;
  statics_.restore();
  at::manual_seed(static_cast<std::uint64_t>(trace_.provenance.seed));
  CountingAllocator& allocator = CountingAllocator::install();
  const Clock::time_point begin = Clock::now();
  for (const Step& step : schedule.steps) {
    run.begins.push_back(Clock::now());
    allocator.reset_peak();
    perform(step, run);
  }
  for (auto& queue : run.queues) {
    if (queue) queue->wait_until_idle();
  }
  const Clock::time_point end = Clock::now();
  run.begins.push_back(end);
  run.step_seconds = std::chrono::duration<double>(end - begin).count();
  return kept_bytes(run.memory);
}

void CpuExecution::perform(const Step& step, Run& run) {
  if (const auto* action = std::get_if<tidemark::Run>(&step.action)) {
    return perform_run(*action, step.cause, run);
  }
  const Clock::time_point begin = Clock::now();
  if (const auto* made = std::get_if<Allocate>(&step.action)) {
    run.memory.allocate(made->instance);
    return run.sample(std::nullopt, run.memory.terms());
  }
  if (const auto* freed = std::get_if<Free>(&step.action)) {
    run.sample(std::nullopt, run.memory.terms());
    return run.memory.free(freed->instance);
  }
  if (const auto* copy = std::get_if<Copy>(&step.action)) perform_copy(*copy, run);
  if (const auto* wait = std::get_if<Wait>(&step.action)) perform_wait(*wait, run);
  if (const auto* gather = std::get_if<Collective>(&step.action)) perform_gather(*gather, run);
  const bool is_transfer = !std::holds_alternative<Wait>(step.action);
  if (is_transfer) run.transfer += Clock::now() - begin;
  run.sample(std::nullopt, run.memory.terms());
}

void CpuExecution::bind(const std::vector<StorageId>& storages,
                        const std::vector<InstanceId>& instances, const ExecutionMemory& memory) {
  for (std::size_t i = 0; i < storages.size(); ++i) {
    bound_[index(storages[i])] = &memory.storage(instances[i]);
  }
}

void CpuExecution::perform_run(const tidemark::Run& action, Cause cause, Run& run) {
  const Op& op = trace_.ops[index(action.op)];
  const Clock::time_point begin = Clock::now();
  bind(op.reads, action.reads, run.memory);
  bind(op.writes, action.writes, run.memory);
  // A random operator that runs again draws what it drew the first time.
  std::optional<GeneratorState> present;
  std::optional<GeneratorState>& first = run.generators[index(action.op)];
  if (op.flags.random && first) {
    present = GeneratorState::take();
    first->restore();
  } else if (op.flags.random) {
    first = GeneratorState::take();
  }
  // Some kernels ask whether gradients are wanted (oneDNN's LSTM keeps its workspace then).
  const at::AutoGradMode as_recorded(op.phase == Phase::forward);
  calls_[index(action.op)].run(bound_, made_);
  if (present) present->restore();
  for (const StorageId id : op.reads) bound_[index(id)] = nullptr;
  for (const StorageId id : op.writes) bound_[index(id)] = nullptr;

  std::array<Bytes, term_count> terms = run.memory.terms();
  for (std::size_t i = 0; i < action.creates.size(); ++i) {
    const bool is_named = action.creates[i] != unnamed_instance;
    const Term term =
        is_named ? run.schedule.instances[index(action.creates[i])].term : unnamed_term(op, cause);
    terms[static_cast<std::size_t>(term)] += trace_.storages[index(op.creates[i])].bytes;
    if (is_named) run.memory.adopt(action.creates[i], std::move(made_[i]));
  }
  run.sample(action.op, terms);
  made_.clear();
  if (cause == Cause::recompute) run.recompute += Clock::now() - begin;
}

void CpuExecution::perform_copy(const Copy& copy, Run& run) {
  const std::uint8_t* from = run.memory.data(copy.from) + copy.from_offset;
  std::uint8_t* to = run.memory.data(copy.to) + copy.to_offset;
  const auto bytes = static_cast<std::size_t>(copy.bytes);
  run.transfer_bytes += copy.bytes;
  if (copy.queue == Queue::compute) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return;
  }
  const std::size_t step = run.begins.size() - 1;
  run.numbers[step] = run.queue(copy.queue).submit([&run, from, to, bytes] {
    const Clock::time_point begin = Clock::now();
    if (bytes > 0) std::memcpy(to, from, bytes);
    run.side_transfer_ns += Nanoseconds(Clock::now() - begin).count();
  });
}

void CpuExecution::perform_wait(const Wait& wait, Run& run) {
  const auto* copy = std::get_if<Copy>(&run.schedule.steps[index(wait.event)].action);
  // Everything on the compute queue is done when its step is.
  if (copy == nullptr || copy->queue == Queue::compute) return;
  CopyQueue& source = run.queue(copy->queue);
  const std::uint64_t number = run.numbers[index(wait.event)];
  if (wait.queue == Queue::compute) return source.wait_until_done(number);
  if (wait.queue != copy->queue) {
    run.queue(wait.queue).submit([&source, number] { source.wait_until_done(number); });
  }
}

void CpuExecution::perform_gather(const Collective& collective, Run& run) {
  std::uint8_t* to = run.memory.data(collective.output);
  for (const InstanceId input : collective.inputs) {
    const auto bytes = static_cast<std::size_t>(run.schedule.instances[index(input)].bytes);
    if (bytes > 0) std::memcpy(to, run.memory.data(input), bytes);
    to += bytes;
  }
  run.transfer_bytes += run.schedule.instances[index(collective.output)].bytes;
}

KeptBytes CpuExecution::kept_bytes(ExecutionMemory& memory) const {
  KeptBytes kept;
  const auto keep = [&](StorageId id) {
    const InstanceId last = memory.final_instance(id);
    if (last == unnamed_instance) {
      throw InternalError("storage " + std::to_string(index(id)) +
                          " is gone at the end of the step");
    }
    const std::uint8_t* data = memory.data(last);
    const auto size = static_cast<std::size_t>(trace_.storages[index(id)].bytes);
    kept[id] =
        size == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(data, data + size);
  };
  if (trace_.loss) keep(*trace_.loss);
  for (const auto& [parameter, view] : trace_.gradients) keep(view.storage);
  return kept;
}

void CpuExecution::compare(const KeptBytes& kept, Measurement& measurement) const {
  if (not_comparable_) {
    measurement.gradients = GradientVerdict::not_comparable;
    measurement.notes.push_back(*not_comparable_);
    return;
  }
  measurement.gradients = kept == reference_ ? GradientVerdict::equal : GradientVerdict::differ;
  if (kept != reference_) {
    measurement.notes.push_back(describe_difference(trace_, reference_, kept));
  }
}

Measurement CpuExecution::execute(const Schedule& schedule, const ExecuteOptions& options) {
  Measurement measurement;
  std::vector<double> steps;
  std::vector<double> recomputes;
  std::vector<double> transfers;
  const auto seconds_of = [](Clock::duration d) {
    return std::chrono::duration<double>(d).count();
  };
  try {
    for (std::int32_t i = 0; i < options.warm_up + options.repeat; ++i) {
      Run run(trace_, schedule, statics_);
      const KeptBytes kept = run_once(schedule, run);
      if (i < options.warm_up) continue;
      steps.push_back(run.step_seconds);
      recomputes.push_back(seconds_of(run.recompute));
      transfers.push_back(seconds_of(run.transfer) +
                          static_cast<double>(run.side_transfer_ns.load()) * 1e-9);
      StepFigures& figures = measurement.figures;
      figures.live_peak_bytes = run.peak;
      figures.host_peak_bytes = run.host_peak;
      figures.static_bytes = statics_.bytes();
      figures.peak_breakdown = run.peak_terms;
      Bytes named = 0;
      for (const Bytes bytes : run.peak_terms) named += bytes;
      figures.peak_breakdown[static_cast<std::size_t>(Term::workspace)] += run.peak - named;
      figures.peak_op = run.peak_op;
      figures.transfer_bytes = run.transfer_bytes;
      measurement.timeline = {.live_bytes = std::move(run.live), .host_bytes = std::move(run.host)};
      compare(kept, measurement);
    }
  } catch (const std::bad_alloc&) {
    measurement.out_of_memory = "this machine has no memory left for the step";
    return measurement;
  }
  StepFigures& figures = measurement.figures;
  Bytes largest = -1;
  for (std::size_t t = 0; t < term_count; ++t) {
    const bool is_static = static_cast<Term>(t) == Term::static_memory;
    if (is_static || figures.peak_breakdown[t] <= largest) continue;
    largest = figures.peak_breakdown[t];
    figures.peak_term = static_cast<Term>(t);
  }
  figures.step_seconds = median(steps);
  figures.recompute_seconds = median(recomputes);
  figures.transfer_seconds = median(transfers);
  if (steps.size() > 1) measurement.step_seconds_noise = quartile_distance(steps);
  return measurement;
}

std::vector<Nanoseconds> CpuExecution::time_operators() {
  Run run(trace_, plain_, statics_);
  (void)run_once(plain_, run);
  // The frees between two operators belong to the first one.
  std::vector<Nanoseconds> durations(trace_.ops.size());
  std::optional<std::size_t> open;
  Clock::time_point opened;
  for (std::size_t s = 0; s <= plain_.steps.size(); ++s) {
    const auto* action =
        s < plain_.steps.size() ? std::get_if<tidemark::Run>(&plain_.steps[s].action) : nullptr;
    if (action == nullptr && s < plain_.steps.size()) continue;
    if (open) durations[*open] = Nanoseconds(run.begins[s] - opened);
    if (action == nullptr) break;
    open = index(action->op);
    opened = run.begins[s];
  }
  return durations;
}

}  // namespace tidemark
