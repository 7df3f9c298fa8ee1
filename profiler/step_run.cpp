#include "step_run.hpp"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "counting_allocator.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

StepRun::StepRun(const StepRunParts& parts, const Schedule& schedule)
    : parts_(parts),
      trace_(parts.trace),
      schedule_(schedule),
      memory_(parts.trace, schedule, parts.statics),
      statics_(parts.trace.storages.size(), nullptr),
      runs_left_(parts.trace.ops.size(), 0),
      generators_(parts.trace.ops.size()),
      events_(schedule.steps.size()) {
  for (std::size_t s = 0; s < statics_.size(); ++s) {
    const c10::Storage& storage = parts.statics.storage(make_id<StorageId>(s));
    if (storage && storage.nbytes() > 0) statics_[s] = &storage;
  }
  bound_ = statics_;
  for (const Step& step : schedule.steps) {
    if (const auto* run = std::get_if<tidemark::Run>(&step.action)) ++runs_left_[index(run->op)];
  }
  executed_.timeline.live_bytes.reserve(schedule.steps.size());
  executed_.timeline.host_bytes.reserve(schedule.steps.size());
  executed_.begins.reserve(schedule.steps.size() + 1);
}

StepRun::~StepRun() {
  parts_.offload.wait_until_idle();
  parts_.fetch.wait_until_idle();
}

std::int64_t StepRun::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                              start_)
      .count();
}

ExecutedStep StepRun::execute() {
  const c10::NoGradGuard no_grad;
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  seed_generator(trace_.provenance.seed);
  StepFigures& figures = executed_.figures;
  CountingAllocator& allocator = CountingAllocator::install();
  // Whatever else is alive in this process is none of the step's.
  base_ = allocator.current_bytes() - parts_.statics.bytes();
  figures.static_bytes = parts_.statics.bytes();
  figures.live_peak_bytes = figures.static_bytes;
  figures.peak_breakdown = memory_.terms();
  start_ = std::chrono::steady_clock::now();
  for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
    const Step& step = schedule_.steps[step_];
    executed_.begins.push_back(now());
    allocator.reset_peak();
    host_before_ = memory_.host_bytes();
    terms_before_ = memory_.terms();
    std::visit([&](const auto& action) { apply(action); }, step.action);
    const Bytes live = allocator.peak_bytes() - base_;
    executed_.timeline.live_bytes.push_back(live);
    executed_.timeline.host_bytes.push_back(std::max(host_before_, memory_.host_bytes()));
    figures.host_peak_bytes = std::max(figures.host_peak_bytes, memory_.host_bytes());
    if (live > figures.live_peak_bytes) name_peak(step, live);
  }
  parts_.offload.wait_until_idle();
  parts_.fetch.wait_until_idle();
  executed_.begins.push_back(now());
  total_times(executed_);
  executed_.results = results();
  return std::move(executed_);
}

// ---- figures ---------------------------------------------------------------------------------

void StepRun::name_peak(const Step& step, Bytes live) {
  StepFigures& figures = executed_.figures;
  figures.live_peak_bytes = live;
  figures.peak_op.reset();
  const std::array<Bytes, term_count> after = memory_.terms();
  Bytes known = 0;
  for (std::size_t t = 0; t < term_count; ++t) {
    figures.peak_breakdown[t] = std::max(terms_before_[t], after[t]);
  }
  if (const auto* run = std::get_if<Run>(&step.action)) {
    figures.peak_op = run->op;
    const Phase phase = trace_.ops[index(run->op)].phase;
    Term term = Term::activation_gradients;
    if (phase == Phase::forward) term = Term::activations;
    if (phase == Phase::optimizer) term = Term::optimizer_step;
    if (step.cause == Cause::recompute) term = Term::recomputed_segment;
    figures.peak_breakdown[static_cast<std::size_t>(term)] += unnamed_bytes(*run);
  }
  for (const Bytes bytes : figures.peak_breakdown) known += bytes;
  figures.peak_breakdown[static_cast<std::size_t>(Term::workspace)] += live - known;
}

Bytes StepRun::unnamed_bytes(const Run& run) const {
  Bytes bytes = 0;
  for (std::size_t i = 0; i < run.creates.size(); ++i) {
    const StorageId id = trace_.ops[index(run.op)].creates[i];
    if (run.creates[i] == unnamed_instance) bytes += trace_.storages[index(id)].bytes;
  }
  return bytes;
}

void StepRun::total_times(ExecutedStep& executed) const {
  StepFigures& figures = executed.figures;
  std::int64_t recompute = 0;
  std::int64_t transfer = side_transfer_nanoseconds_.load();
  for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
    const Step& step = schedule_.steps[i];
    const std::int64_t duration = executed.begins[i + 1] - executed.begins[i];
    const auto* copy = std::get_if<Copy>(&step.action);
    if (copy != nullptr && copy->queue == Queue::compute) transfer += duration;
    if (std::holds_alternative<Collective>(step.action)) transfer += duration;
    const bool is_run_or_free = std::holds_alternative<Run>(step.action) ||
                                std::holds_alternative<Free>(step.action);
    if (step.cause == Cause::recompute && is_run_or_free) recompute += duration;
  }
  figures.step_seconds = seconds(Nanoseconds(executed.begins.back()));
  figures.recompute_seconds = seconds(Nanoseconds(recompute));
  figures.transfer_seconds = seconds(Nanoseconds(transfer));
  Bytes largest = -1;
  for (std::size_t t = 0; t < term_count; ++t) {
    const bool is_static = t == static_cast<std::size_t>(Term::static_memory);
    if (is_static || figures.peak_breakdown[t] <= largest) continue;
    largest = figures.peak_breakdown[t];
    figures.peak_term = static_cast<Term>(t);
  }
}

StepResults StepRun::results() {
  StepResults results;
  const auto bytes = [&](StorageId id) -> const std::uint8_t* {
    const InstanceId instance = memory_.final_instance(id);
    if (instance == unnamed_instance) {
      throw InternalError("a kept storage is not alive at the end of the schedule");
    }
    return trace_.storages[index(id)].bytes == 0 ? nullptr : memory_.data(instance);
  };
  for (const auto& [parameter, view] : trace_.gradients) {
    results.gradients.push_back(elements_of(view, bytes(view.storage)));
  }
  if (trace_.loss) {
    const std::uint8_t* data = bytes(*trace_.loss);
    results.loss.assign(data, data + trace_.storages[index(*trace_.loss)].bytes);
  }
  return results;
}

// ---- the six kinds of step ---------------------------------------------------------------------

void StepRun::bind(const std::vector<StorageId>& storages,
                   const std::vector<InstanceId>& instances) {
  for (std::size_t i = 0; i < storages.size(); ++i) {
    const c10::Storage& storage = memory_.storage(instances[i]);
    bound_[index(storages[i])] = storage && storage.nbytes() > 0 ? &storage : nullptr;
  }
}

void StepRun::unbind(const std::vector<StorageId>& storages) {
  for (const StorageId id : storages) bound_[index(id)] = statics_[index(id)];
}

void StepRun::apply(const Run& run) {
  const Op& op = trace_.ops[index(run.op)];
  bind(op.reads, run.reads);
  bind(op.writes, run.writes);
  if (op.flags.random) {
    call(run);
  } else {
    parts_.calls[index(run.op)].run(bound_, made_);
  }
  unbind(op.reads);
  unbind(op.writes);
  for (std::size_t i = 0; i < run.creates.size(); ++i) {
    if (run.creates[i] != unnamed_instance) memory_.adopt(run.creates[i], std::move(made_[i]));
  }
  made_.clear();
}

// A random operator draws, when it runs again, what it drew the first time.
void StepRun::call(const Run& run) {
  const std::size_t op = index(run.op);
  std::optional<GeneratorState>& drawn_from = generators_[op];
  --runs_left_[op];
  if (!drawn_from) {
    if (runs_left_[op] > 0) drawn_from = GeneratorState::take();
    parts_.calls[op].run(bound_, made_);
    return;
  }
  const GeneratorState present = GeneratorState::take();
  drawn_from->restore();
  parts_.calls[op].run(bound_, made_);
  present.restore();
}

void StepRun::apply(const Allocate& allocate) { memory_.allocate(allocate.instance); }

void StepRun::apply(const Free& free) { memory_.free(free.instance); }

CopyQueue* StepRun::side_queue(Queue queue) const {
  if (queue == Queue::compute) return nullptr;
  return queue == Queue::offload ? &parts_.offload : &parts_.fetch;
}

// Compute runs on this thread, so whatever it did before is done when a side queue begins.
void StepRun::apply(const Copy& copy) {
  executed_.figures.transfer_bytes += copy.bytes;
  const std::uint8_t* from = memory_.data(copy.from) + copy.from_offset;
  std::uint8_t* to = memory_.data(copy.to) + copy.to_offset;
  const auto size = static_cast<std::size_t>(copy.bytes);
  CopyQueue* queue = side_queue(copy.queue);
  if (queue == nullptr) {
    std::memcpy(to, from, size);
    return;
  }
  events_[step_] = {.queue = queue, .number = queue->submit([this, to, from, size] {
                      const std::int64_t begin = now();
                      std::memcpy(to, from, size);
                      side_transfer_nanoseconds_ += now() - begin;
                    })};
}

void StepRun::apply(const Wait& wait) {
  const Event event = events_[index(wait.event)];
  if (event.queue == nullptr) return;
  CopyQueue* queue = side_queue(wait.queue);
  if (queue == nullptr) {
    event.queue->wait_until_done(event.number);
    return;
  }
  if (queue == event.queue) {
    events_[step_] = event;
    return;
  }
  events_[step_] = {.queue = queue, .number = queue->submit([event] {
                      event.queue->wait_until_done(event.number);
                    })};
}

void StepRun::apply(const Collective& collective) {
  std::uint8_t* to = memory_.data(collective.output);
  for (const InstanceId input : collective.inputs) {
    const auto size = static_cast<std::size_t>(schedule_.instances[index(input)].bytes);
    std::memcpy(to, memory_.data(input), size);
    to += size;
  }
  executed_.figures.transfer_bytes += schedule_.instances[index(collective.output)].bytes;
}

}  // namespace tidemark
