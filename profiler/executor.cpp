#include "executor.hpp"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <new>
#include <utility>

#include "call_values.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/setting.hpp"
#include "torch_error.hpp"

namespace tidemark {

namespace {

// To tell a wrong gradient from one that does not repeat itself.
constexpr int further_replays = 3;

std::vector<BoxedCall> prepare_calls(const StepTrace& trace, c10::Device device) {
  std::vector<BoxedCall> calls;
  calls.reserve(trace.ops.size());
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    calls.emplace_back(trace, make_id<OpId>(o), Gradients::on, device);
  }
  return calls;
}

std::map<OpId, BoxedCall> prepare_no_grad_calls(const StepTrace& trace, c10::Device device) {
  std::map<OpId, BoxedCall> calls;
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    if (!trace.ops[o].no_grad) continue;
    const auto id = make_id<OpId>(o);
    calls.emplace(id, BoxedCall(trace, id, Gradients::off, device));
  }
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

std::optional<Bytes> highest(const std::vector<Bytes>& levels) {
  if (levels.empty()) return std::nullopt;
  return *std::max_element(levels.begin(), levels.end());
}

StepWork step_work(const Step& step) {
  if (std::holds_alternative<Run>(step.action)) {
    return step.cause == Cause::recompute ? StepWork::recompute : StepWork::operation;
  }
  const bool is_transfer =
      std::holds_alternative<Copy>(step.action) || std::holds_alternative<Collective>(step.action);
  return is_transfer ? StepWork::transfer : StepWork::other;
}

// The times of the measured executions: medians are reported.
struct RepeatedTimes {
  std::vector<double> steps;
  std::vector<double> recomputes;
  std::vector<double> transfers;
  std::vector<std::string> notes;

  void add(const StepTimes& times) {
    if (times.step_seconds) steps.push_back(*times.step_seconds);
    if (times.recompute_seconds) recomputes.push_back(*times.recompute_seconds);
    if (times.transfer_seconds) transfers.push_back(*times.transfer_seconds);
    notes = times.notes;
  }

  void fill(Measurement& measurement) const {
    StepFigures& figures = measurement.figures;
    if (!steps.empty()) figures.step_seconds = median(steps);
    if (!recomputes.empty()) figures.recompute_seconds = median(recomputes);
    if (!transfers.empty()) figures.transfer_seconds = median(transfers);
    if (steps.size() > 1) measurement.step_seconds_noise = quartile_distance(steps);
    measurement.notes.insert(measurement.notes.end(), notes.begin(), notes.end());
  }
};

}  // namespace

// One execution under way, and what it measures.
struct StepExecution::Run {
  Run(Backend& device, const StepTrace& trace, const Schedule& planned, const StaticMemory& statics)
      : backend(device),
        schedule(planned),
        memory(device, trace, planned, statics),
        generators(trace.ops.size()),
        timer(device.make_timer(planned.steps.size())),
        queues(device.make_queues()) {
    level_before = device.meter().current_bytes() - statics.bytes();
    live.reserve(planned.steps.size());
    host.reserve(planned.steps.size());
  }

  // Takes the level during the step that just ended.
  void sample(std::optional<OpId> op, const std::array<Bytes, term_count>& terms) {
    const Bytes during = backend.meter().peak_bytes() - level_before;
    live.push_back(during);
    host.push_back(memory.host_bytes());
    host_peak = std::max(host_peak, memory.host_bytes());
    if (const std::optional<AllocatorReading> reading = backend.read_allocator()) {
      allocated.push_back(reading->allocated_peak);
      reserved.push_back(reading->reserved_peak);
    }
    if (during <= peak) return;
    peak = during;
    peak_op = op;
    peak_terms = terms;
  }

  Backend& backend;
  const Schedule& schedule;
  ExecutionMemory memory;
  Bytes level_before = 0;                                 // counted bytes that are not this step's
  std::vector<std::optional<GeneratorState>> generators;  // by operator, as it first found it
  std::size_t step = 0;
  std::vector<Bytes> live;
  std::vector<Bytes> host;
  std::vector<Bytes> allocated;  // empty where there is no allocator
  std::vector<Bytes> reserved;
  Bytes peak = 0;
  Bytes host_peak = 0;
  std::optional<OpId> peak_op;
  std::array<Bytes, term_count> peak_terms{};
  Bytes transfer_bytes = 0;
  std::unique_ptr<StepTimer> timer;
  StepTimes times;
  // The last member: copies end before the memory goes.
  std::unique_ptr<CopyQueues> queues;
};

StepExecution::StepExecution(Backend& backend, const StepTrace& trace, const FillStorage& fill)
    : backend_(backend),
      trace_(trace),
      calls_(prepare_calls(trace, backend.device())),
      no_grad_calls_(prepare_no_grad_calls(trace, backend.device())),
      statics_(backend, trace, fill),
      bound_(trace.storages.size(), nullptr),
      plain_(plain_schedule(trace)),
      judge_(trace) {
  if (backend_.computes()) {
    make_reference();
  } else {
    judge_.give_up(std::nullopt);
  }
}

void StepExecution::make_reference() {
  // A schedule may fit where the plain step does not.
  if (!replay_plain() || !replay_plain()) {
    judge_.give_up("the unscheduled step, with which gradients are compared, has no memory");
  }
}

// False: there is no memory for it.
bool StepExecution::replay_plain() {
  try {
    Run run(backend_, trace_, plain_, statics_);
    judge_.add_replay(run_once(plain_, run));
    return true;
  } catch (const std::bad_alloc&) {
  } catch (const c10::OutOfMemoryError&) {
  } catch (const c10::Error& error) {
    if (!is_out_of_memory(error)) throw;
  }
  return false;
}

KeptBytes StepExecution::run_once(const Schedule& schedule, Run& run) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowAutograd below_autograd;
  statics_.restore();
  at::manual_seed(static_cast<std::uint64_t>(trace_.provenance.seed));
  backend_.synchronize();  // what was uploaded belongs to no step's time
  for (run.step = 0; run.step < schedule.steps.size(); ++run.step) {
    const Step& step = schedule.steps[run.step];
    const StepWork work = step_work(step);
    run.timer->begin(work);
    backend_.reset_peaks();
    perform(step, run);
    run.timer->end(work);
  }
  run.queues->finish();
  run.times = run.timer->finish();
  return kept_bytes(run.memory);
}

void StepExecution::perform(const Step& step, Run& run) {
  if (const auto* action = std::get_if<tidemark::Run>(&step.action)) {
    return perform_run(*action, step.cause, run);
  }
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
  run.sample(std::nullopt, run.memory.terms());
}

void StepExecution::bind(const std::vector<StorageId>& storages,
                         const std::vector<InstanceId>& instances, const ExecutionMemory& memory) {
  for (std::size_t i = 0; i < storages.size(); ++i) {
    bound_[index(storages[i])] = &memory.storage(instances[i]);
  }
}

void StepExecution::perform_run(const tidemark::Run& action, Cause cause, Run& run) {
  const Op& op = trace_.ops[index(action.op)];
  bind(op.reads, action.reads, run.memory);
  bind(op.writes, action.writes, run.memory);
  // A random operator that runs again draws what it drew the first time.
  std::optional<GeneratorState> present;
  std::optional<GeneratorState>& first = run.generators[index(action.op)];
  if (op.flags.random && first) {
    present = backend_.generator_state();
    backend_.restore(*first);
  } else if (op.flags.random) {
    first = backend_.generator_state();
  }
  // Some kernels ask whether gradients are wanted (oneDNN's LSTM keeps its workspace then).
  const at::AutoGradMode as_recorded(op.phase == Phase::forward &&
                                     action.gradients == Gradients::on);
  BoxedCall& call =
      action.gradients == Gradients::off ? no_grad_calls_.at(action.op) : calls_[index(action.op)];
  call.run(bound_, made_);
  if (present) backend_.restore(*present);
  for (const StorageId id : op.reads) bound_[index(id)] = nullptr;
  for (const StorageId id : op.writes) bound_[index(id)] = nullptr;

  const OpForm form = form_of(op, action.gradients);
  std::array<Bytes, term_count> terms = run.memory.terms();
  for (std::size_t i = 0; i < action.creates.size(); ++i) {
    const bool is_named = action.creates[i] != unnamed_instance;
    const Term term =
        is_named ? run.schedule.instances[index(action.creates[i])].term : unnamed_term(op, cause);
    const bool is_made = form.makes(op.creates[i]);
    if (is_made && is_on_device(trace_, op.creates[i])) {
      terms[static_cast<std::size_t>(term)] += trace_.storages[index(op.creates[i])].bytes;
    }
    if (is_named) run.memory.adopt(action.creates[i], std::move(made_[i]));
  }
  run.sample(action.op, terms);
  made_.clear();
}

void StepExecution::perform_copy(const Copy& copy, Run& run) {
  run.transfer_bytes += copy.bytes;
  run.queues->copy(make_id<StepId>(run.step),
                   {.queue = copy.queue,
                    .to = run.memory.data(copy.to) + copy.to_offset,
                    .from = run.memory.data(copy.from) + copy.from_offset,
                    .bytes = static_cast<std::size_t>(copy.bytes),
                    .to_place = run.memory.place(copy.to),
                    .from_place = run.memory.place(copy.from)});
  if (copy.bytes == run.schedule.instances[index(copy.to)].bytes) run.memory.fill(copy.to);
}

void StepExecution::perform_wait(const Wait& wait, Run& run) {
  const auto* copy = std::get_if<Copy>(&run.schedule.steps[index(wait.event)].action);
  const bool is_side_copy = copy != nullptr && copy->queue != Queue::compute;
  if (is_side_copy) return run.queues->wait(wait.queue, wait.event);
  if (wait.queue != Queue::compute) run.queues->wait_for_compute(wait.queue);
}

void StepExecution::perform_gather(const Collective& collective, Run& run) {
  std::uint8_t* to = run.memory.data(collective.output);
  for (const InstanceId input : collective.inputs) {
    const auto bytes = static_cast<std::size_t>(run.schedule.instances[index(input)].bytes);
    run.queues->copy(make_id<StepId>(run.step), {.queue = Queue::compute,
                                                 .to = to,
                                                 .from = run.memory.data(input),
                                                 .bytes = bytes,
                                                 .to_place = run.memory.place(collective.output),
                                                 .from_place = run.memory.place(input)});
    to += bytes;
  }
  run.transfer_bytes += run.schedule.instances[index(collective.output)].bytes;
  run.memory.fill(collective.output);
}

KeptBytes StepExecution::kept_bytes(ExecutionMemory& memory) const {
  KeptBytes kept;
  if (!backend_.computes()) return kept;
  const auto keep = [&](StorageId id) {
    const InstanceId last = memory.final_instance(id);
    if (last == unnamed_instance) {
      throw InternalError("storage " + std::to_string(index(id)) +
                          " is gone at the end of the step");
    }
    kept[id] = bytes_of(backend_, memory.storage(last));
  };
  if (trace_.loss) keep(*trace_.loss);
  for (const auto& [parameter, view] : trace_.gradients) keep(view.storage);
  return kept;
}

// Kernels that are not deterministic may have given the same bits twice by chance: what differs is
// looked for in further unscheduled steps too, once nothing is measured any more.
GradientFinding StepExecution::doubt(GradientFinding finding, const KeptBytes& kept) {
  for (int i = 0; i < further_replays && finding.verdict == GradientVerdict::differ; ++i) {
    if (!replay_plain()) break;
    finding = judge_.judge(kept);
  }
  return finding;
}

StepFigures StepExecution::figures_of(const Run& run) {
  StepFigures figures;
  figures.live_peak_bytes = run.peak;
  figures.host_peak_bytes = run.host_peak;
  figures.static_bytes = statics_.bytes();
  figures.peak_breakdown = run.peak_terms;
  Bytes named = 0;
  for (const Bytes bytes : run.peak_terms) named += bytes;
  figures.peak_breakdown[static_cast<std::size_t>(Term::workspace)] += run.peak - named;
  figures.peak_op = run.peak_op;
  figures.transfer_bytes = run.transfer_bytes;
  Bytes largest = -1;
  for (std::size_t t = 0; t < term_count; ++t) {
    const bool is_static = static_cast<Term>(t) == Term::static_memory;
    if (is_static || figures.peak_breakdown[t] <= largest) continue;
    largest = figures.peak_breakdown[t];
    figures.peak_term = static_cast<Term>(t);
  }
  figures.allocated_peak_bytes = highest(run.allocated);
  figures.reserved_peak_bytes = highest(run.reserved);
  figures.pinned_reserved_bytes = backend_.pinned_reserved_bytes();
  return figures;
}

// What is static is allocated under the same settings as the rest.
void StepExecution::use_allocator_settings(const std::string& conf) {
  if (conf == alloc_conf_) return backend_.empty_caches();
  backend_.set_allocator_settings(conf);
  alloc_conf_ = conf;
  statics_.renew();
}

// Some errors are a device's last: everything asked of it from then on fails too.
bool StepExecution::answers() {
  try {
    backend_.synchronize();
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

Measurement StepExecution::execute(const Schedule& schedule, const ExecuteOptions& options) {
  Measurement measurement;
  RepeatedTimes times;
  std::unique_ptr<Run> run;
  std::optional<Bytes> first_reserved;
  GradientFinding gradients;
  KeptBytes judged;  // what that finding is about
  const auto take_figures = [&] {
    measurement.figures = figures_of(*run);
    measurement.figures.first_reserved_peak_bytes = first_reserved;
  };
  const auto out_of_memory = [&](const std::string& sentence) {
    measurement.out_of_memory = sentence;
    if (run) take_figures();
    run.reset();
    backend_.empty_caches();
    return measurement;
  };
  const auto throw_if_lost = [&](const std::string& sentence) {
    if (answers()) return;
    (void)run.release();  // its events could not be given back, and would end the program
    throw DeviceLost(sentence);
  };
  try {
    use_allocator_settings(options.alloc_conf);
    for (std::int32_t i = 0; i < options.warm_up + options.repeat; ++i) {
      run.reset();  // before the next one takes its memory
      run = std::make_unique<Run>(backend_, trace_, schedule, statics_);
      KeptBytes kept = run_once(schedule, *run);
      if (i == 0) first_reserved = highest(run->reserved);
      if (i < options.warm_up) continue;
      times.add(run->times);
      take_figures();
      measurement.timeline = {.live_bytes = std::move(run->live),
                              .host_bytes = std::move(run->host),
                              .allocated_bytes = std::move(run->allocated),
                              .reserved_bytes = std::move(run->reserved)};
      GradientFinding finding = judge_.judge(kept);
      if (!is_worse(finding.verdict, gradients.verdict)) continue;
      gradients = std::move(finding);
      judged = std::move(kept);
    }
    run.reset();
    gradients = doubt(std::move(gradients), judged);
  } catch (const std::bad_alloc&) {
    const bool is_host = !backend_.device().is_cpu();
    return out_of_memory(is_host ? "the host has no memory left for the step"
                                 : backend_.describe_out_of_memory());
  } catch (const c10::OutOfMemoryError&) {
    return out_of_memory(backend_.describe_out_of_memory());
  } catch (const DeviceError& error) {
    throw_if_lost(error.what());
    throw;
  } catch (const c10::Error& error) {
    const std::string sentence = "the device failed: " + first_line(error);
    throw_if_lost(sentence);
    if (!is_out_of_memory(error)) throw DeviceError(sentence);
    return out_of_memory("no memory is left outside of PyTorch's allocator: " + first_line(error));
  }
  times.fill(measurement);
  measurement.gradients = gradients.verdict;
  if (gradients.note) measurement.notes.push_back(*gradients.note);
  return measurement;
}

std::vector<Nanoseconds> StepExecution::time_operators() {
  Run run(backend_, trace_, plain_, statics_);
  (void)run_once(plain_, run);
  const std::vector<Nanoseconds>& begins = run.times.begins;
  if (begins.empty()) return {};
  // The frees between two operators belong to the first one.
  std::vector<Nanoseconds> durations(trace_.ops.size());
  std::optional<std::size_t> open;
  Nanoseconds opened{};
  for (std::size_t s = 0; s <= plain_.steps.size(); ++s) {
    const auto* action =
        s < plain_.steps.size() ? std::get_if<tidemark::Run>(&plain_.steps[s].action) : nullptr;
    if (action == nullptr && s < plain_.steps.size()) continue;
    if (open) durations[*open] = begins[s] - opened;
    if (action == nullptr) break;
    open = index(action->op);
    opened = begins[s];
  }
  return durations;
}

}  // namespace tidemark
