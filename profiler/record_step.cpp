#include "record_step.hpp"

#include <ATen/ATen.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "eager_step.hpp"
#include "form_values.hpp"
#include "interpreter.hpp"
#include "no_grad_forward.hpp"
#include "recorder.hpp"
#include "step_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int timed_eager_steps = 3;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// By parameter; empty where there is none.
using GradientBytes = std::vector<std::vector<std::uint8_t>>;

GradientBytes gradient_bytes(Backend& backend, const EagerStep& step) {
  GradientBytes all;
  for (const StaticTensor& parameter : step.parameters()) {
    const at::Tensor& gradient = parameter.tensor.grad();
    all.push_back(gradient.defined() && backend.computes() ? bytes_of(backend, gradient.storage())
                                                           : std::vector<std::uint8_t>());
  }
  return all;
}

Bytes workspace_bytes(Backend& backend) {
  Bytes bytes = 0;
  for (const LibraryWorkspace& workspace : backend.library_workspaces()) bytes += workspace.bytes;
  return bytes;
}

// Times and peak of the step itself, with recording off. The first step only warms up.
void measure_eager(Backend& backend, EagerStep& step, RecordedStep& recorded) {
  const int steps = backend.computes() ? timed_eager_steps : 1;
  std::vector<double> times;
  for (int i = 0; i <= steps; ++i) {
    step.reset();
    const Bytes before = backend.meter().current_bytes();
    const Bytes workspaces = workspace_bytes(backend);
    backend.meter().reset_peak();
    const Clock::time_point begin = Clock::now();
    step.run();
    backend.synchronize();
    if (i > 0) times.push_back(seconds_since(begin));
    recorded.eager_live_peak_bytes =
        backend.meter().peak_bytes() - before + step.static_bytes() + workspaces;
  }
  recorded.eager_seconds = median(times);
}

// What exists before the step: its own static tensors, and the memory that libraries keep.
std::vector<StaticTensor> statics_with_workspaces(Backend& backend, const EagerStep& step) {
  std::vector<StaticTensor> statics = step.statics();
  for (const LibraryWorkspace& workspace : backend.library_workspaces()) {
    // Floating point, so that its bytes are no indices to keep.
    const at::Tensor whole = at::from_blob(
        const_cast<void*>(workspace.data), {workspace.bytes / static_cast<Bytes>(sizeof(float))},
        at::TensorOptions().dtype(at::kFloat).device(backend.device()));
    statics.push_back({workspace.name, Role::buffer, whole});
  }
  return statics;
}

void record_with(Backend& backend, EagerStep& step, const RecordOptions& options,
                 RecordedStep& recorded) {
  step.reset();
  const Clock::time_point begin = Clock::now();
  StepRecorder recorder(backend, statics_with_workspaces(backend, step),
                        [&] { return step.current_node(); });
  Interpreter::Result result = step.forward();
  EagerStep::check_loss(result.loss);
  recorder.mark_loss(result.loss);
  for (const at::Tensor& output : result.outputs) recorder.mark_output(output);
  // The caller keeps nothing but the loss.
  result.outputs.clear();
  recorder.set_phase(Phase::backward);
  result.loss.backward();
  recorder.set_phase(Phase::optimizer);
  step.optimize();
  for (const StaticTensor& parameter : step.parameters()) {
    if (parameter.tensor.grad().defined()) {
      recorder.mark_gradient(parameter.tensor, parameter.tensor.grad());
    }
  }
  recorded.trace = recorder.finish();
  recorded.recording_seconds = seconds_since(begin);
  recorded.loss = result.loss.item<double>();
  recorded.trace.provenance.seed = options.seed;
  recorded.trace.recomputation_workspace_bytes = backend.recomputation_workspace_bytes();
}

std::uint64_t checksum(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous().cpu();
  const auto* bytes = static_cast<const std::uint8_t*>(contiguous.const_data_ptr());
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < contiguous.nbytes(); ++i) sum += (i + 1) * bytes[i];
  return sum;
}

void note_gradients(const EagerStep& step, RecordedStep& recorded) {
  for (const StaticTensor& parameter : step.parameters()) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    recorded.gradient_norms.push_back(
        {parameter.name, gradient.norm().item<double>(), checksum(gradient)});
  }
}

// Whether replaying the list of operators gives what autograd gave, bit for bit.
void compare_replay(GradientBytes gradients, const std::vector<std::string>& names,
                    const StepExecution& execution, RecordedStep& recorded) {
  recorded.replay = GradientVerdict::not_comparable;
  if (execution.judge().reference().empty()) return;
  KeptBytes of_autograd;
  std::size_t next = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (names[i].empty()) continue;
    const StorageId storage = recorded.trace.gradients.at(next++).second.storage;
    of_autograd.emplace(storage, std::move(gradients[i]));
  }
  const GradientFinding finding = execution.judge().judge(of_autograd);
  recorded.replay = finding.verdict;
  if (finding.verdict == GradientVerdict::differ) {
    recorded.notes.push_back("autograd against the replay of its operators: " + *finding.note);
  }
}

void time_replays(StepExecution& execution, std::int32_t replays, StepTrace& trace) {
  std::vector<std::vector<Nanoseconds>> runs;
  for (std::int32_t i = 0; i < std::max(replays, 1); ++i)
    runs.push_back(execution.time_operators());
  if (runs.front().empty()) return;
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    std::vector<Nanoseconds> times;
    times.reserve(runs.size());
    for (const auto& run : runs) times.push_back(run[o]);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                     times.end());
    trace.ops[o].duration = times[times.size() / 2];
  }
}

// What is left of the autograd step once its memory is given back.
struct EagerResult {
  std::vector<StaticValue> initial_values;
  GradientBytes gradients;
  std::vector<std::string> names;  // of the parameters with a gradient, else empty
  bool is_deterministic = true;
};

EagerResult record_eager(Backend& backend, const TraceDevice& device, const Program& program,
                         const RecordOptions& options, RecordedStep& recorded) {
  EagerStep step(backend, program, options);
  measure_eager(backend, step, recorded);
  const GradientBytes before = gradient_bytes(backend, step);
  record_with(backend, step, options, recorded);
  EagerResult result;
  result.gradients = gradient_bytes(backend, step);
  result.is_deterministic = result.gradients == before;
  for (const StaticTensor& parameter : step.parameters()) {
    result.names.push_back(parameter.tensor.grad().defined() ? parameter.name : std::string());
  }
  recorded.trace.device = device;
  recorded.trace.provenance.framework = std::string("torch ") + TORCH_VERSION;
  recorded.trace.provenance.host = device.name;
  if (backend.computes()) note_gradients(step, recorded);
  step.reset();
  if (auto note = record_no_grad_forms(backend, step, statics_with_workspaces(backend, step),
                                       recorded.trace)) {
    recorded.notes.push_back(*std::move(note));
  }
  result.initial_values = step.take_initial_values();
  return result;
}

}  // namespace

RecordedStep record_step(Backend& backend, const TraceDevice& device, const Program& program,
                         const RecordOptions& options) {
  RecordedStep recorded;
  // The replay starts when the step's own memory is free again, from the same values.
  EagerResult eager = record_eager(backend, device, program, options, recorded);
  const std::vector<std::string> broken = check_trace(recorded.trace);
  if (!broken.empty()) throw InternalError("the recorded step breaks a rule: " + broken.front());
  if (!backend.computes()) {
    recorded.replay = GradientVerdict::not_comparable;
    return recorded;
  }
  const FillStorage fill = fill_from(recorded.trace, std::move(eager.initial_values));
  if (auto note = drop_unequal_forms(backend, recorded.trace, fill)) {
    recorded.notes.push_back(*std::move(note));
  }
  StepExecution execution(backend, recorded.trace, fill);
  compare_replay(std::move(eager.gradients), eager.names, execution, recorded);
  if (!eager.is_deterministic) {
    recorded.replay = GradientVerdict::not_comparable;
    const std::string remedy =
        backend.device().is_cpu() ? "; with --threads 1 they are comparable" : "";
    recorded.notes.push_back(
        "two steps of PyTorch itself give different gradients (some kernels add in the order in "
        "which threads arrive)" +
        remedy);
  }
  time_replays(execution, options.timing_replays, recorded.trace);
  return recorded;
}

std::unique_ptr<Execution> prepare_step(Backend& backend, const StepTrace& trace,
                                        const Program* values) {
  std::vector<StaticValue> known;
  if (values != nullptr && backend.computes()) {
    // On the host: the device may have no room for the values twice.
    const Interpreter interpreter(*values, c10::Device(c10::kCPU), trace.provenance.seed);
    for (const NamedTensor& entry : interpreter.static_tensors()) {
      known.push_back({entry.name, entry.role, bytes_of(backend, entry.tensor.storage())});
    }
  }
  return std::make_unique<StepExecution>(backend, trace, fill_from(trace, std::move(known)));
}

}  // namespace tidemark
