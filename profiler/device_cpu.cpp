#include "device_cpu.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "counting_allocator.hpp"
#include "executor.hpp"
#include "interpreter.hpp"
#include "optimizer_step.hpp"
#include "recorder.hpp"
#include "step_values.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int timed_eager_steps = 3;
constexpr std::size_t copied_bytes = std::size_t{64} << 20;
constexpr int measured_copies = 5;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

// What copies between two places in memory achieve, outside counted memory.
double copy_bytes_per_second() {
  std::vector<char> from(copied_bytes, 1);
  std::vector<char> to(copied_bytes, 2);
  std::vector<double> times;
  for (int i = 0; i < measured_copies; ++i) {
    const Clock::time_point begin = Clock::now();
    std::memcpy(to.data(), from.data(), copied_bytes);
    times.push_back(seconds_since(begin));
  }
  return static_cast<double>(copied_bytes) / median(times);
}

// One program's autograd step, run again and again from the same values.
class EagerStep {
 public:
  EagerStep(const Program& program, const RecordOptions& options)
      : options_(options), interpreter_(program, c10::Device(c10::kCPU), options.seed) {
    for (const NamedTensor& entry : interpreter_.static_tensors()) {
      statics_.push_back({entry.name, entry.role, entry.tensor});
      if (entry.role == Role::parameter && entry.tensor.requires_grad()) {
        parameters_.push_back(statics_.back());
      }
    }
    if (options.accumulate_gradients) make_gradients();
    for (const StaticTensor& entry : statics_) keep_initial(entry);
    if (options.optimizer != Optimizer::none) make_optimizer();
  }

  [[nodiscard]] const std::vector<StaticTensor>& statics() const { return statics_; }
  [[nodiscard]] const std::vector<StaticTensor>& parameters() const { return parameters_; }
  [[nodiscard]] Bytes static_bytes() const { return static_bytes_; }
  [[nodiscard]] const Node* current_node() const { return interpreter_.current_node(); }

  // Values and gradients as before the step; the generator as torch.manual_seed leaves it.
  void reset() {
    for (const auto& [tensor, bytes] : initial_) {
      if (!bytes.empty()) {
        std::memcpy(tensor.storage().mutable_data(), bytes.data(), bytes.size());
      }
    }
    if (!options_.accumulate_gradients) {
      for (const StaticTensor& parameter : parameters_) parameter.tensor.mutable_grad().reset();
    }
    at::manual_seed(static_cast<std::uint64_t>(options_.seed));
  }

  [[nodiscard]] Interpreter::Result forward() { return interpreter_.run(options_.loss); }

  static void check_loss(const at::Tensor& loss) {
    if (loss.requires_grad()) return;
    throw InputError(
        "the loss carries no gradient: the parameters are frozen, or the model was exported under "
        "torch.no_grad or with its own checkpointing on; export it in training mode without them");
  }

  void optimize() {
    if (optimizer_) optimizer_->step();
  }

  void run() {
    at::Tensor loss = forward().loss;
    check_loss(loss);
    loss.backward();
    optimize();
  }

 private:
  void keep_initial(const StaticTensor& entry) {
    const c10::Storage& storage = entry.tensor.storage();
    if (!storages_.insert(storage.unsafeGetStorageImpl()).second) return;
    static_bytes_ += static_cast<Bytes>(storage.nbytes());
    const auto* data = static_cast<const std::uint8_t*>(storage.data());
    initial_.push_back({entry.tensor, {data, data + storage.nbytes()}});
  }

  // The optimizer's states are what a first step leaves; the parameters are as before it.
  void make_optimizer() {
    std::vector<at::Tensor> tensors;
    for (const StaticTensor& parameter : parameters_) tensors.push_back(parameter.tensor);
    optimizer_ = make_optimizer_step(options_.optimizer, options_.optimizer_form, tensors);
    reset();
    run();
    for (const OptimizerState& state : optimizer_->states()) {
      const std::string name = parameters_[state.parameter].name + "." + state.name;
      statics_.push_back({name, Role::optimizer_state, state.tensor});
      keep_initial(statics_.back());
    }
    reset();
  }

  void make_gradients() {
    for (const StaticTensor& parameter : parameters_) {
      at::Tensor gradient = at::empty_like(parameter.tensor).normal_(0, 0.01);
      parameter.tensor.mutable_grad() = gradient;
      statics_.push_back({parameter.name + ".grad", Role::gradient, gradient});
    }
  }

  const RecordOptions& options_;
  Interpreter interpreter_;
  std::unique_ptr<OptimizerStep> optimizer_;
  std::vector<StaticTensor> statics_;
  std::vector<StaticTensor> parameters_;
  std::set<const c10::StorageImpl*> storages_;
  std::vector<std::pair<at::Tensor, std::vector<std::uint8_t>>> initial_;
  Bytes static_bytes_ = 0;
};

using GradientBytes = std::vector<std::vector<std::uint8_t>>;

GradientBytes gradient_bytes(const EagerStep& step) {
  GradientBytes all;
  for (const StaticTensor& parameter : step.parameters()) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    const auto* data = static_cast<const std::uint8_t*>(gradient.storage().data());
    all.emplace_back(data, data + gradient.storage().nbytes());
  }
  return all;
}

// Times and peak of the step itself, with recording off. The first step only warms up.
void measure_eager(EagerStep& step, RecordedStep& recorded) {
  CountingAllocator& allocator = CountingAllocator::install();
  std::vector<double> times;
  for (int i = 0; i <= timed_eager_steps; ++i) {
    step.reset();
    const Bytes before = allocator.current_bytes();
    allocator.reset_peak();
    const Clock::time_point begin = Clock::now();
    step.run();
    if (i > 0) times.push_back(seconds_since(begin));
    recorded.eager_live_peak_bytes = allocator.peak_bytes() - before + step.static_bytes();
  }
  recorded.eager_seconds = median(times);
}

void record_step(EagerStep& step, const RecordOptions& options, RecordedStep& recorded) {
  step.reset();
  const Clock::time_point begin = Clock::now();
  StepRecorder recorder(step.statics(), [&] { return step.current_node(); });
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
}

std::uint64_t checksum(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
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
void compare_replay(const EagerStep& step, const CpuExecution& execution, RecordedStep& recorded) {
  std::string different;
  std::size_t next = 0;
  for (const StaticTensor& parameter : step.parameters()) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    const std::vector<std::uint8_t>& replayed =
        execution.reference().at(recorded.trace.gradients.at(next++).second.storage);
    const c10::Storage& storage = gradient.storage();
    const bool is_equal = storage.nbytes() == replayed.size() &&
                          std::memcmp(storage.data(), replayed.data(), replayed.size()) == 0;
    if (!is_equal) different += (different.empty() ? "" : ", ") + parameter.name;
  }
  recorded.replay = different.empty() ? GradientVerdict::equal : GradientVerdict::differ;
  if (!different.empty()) {
    recorded.notes.push_back("the replay's gradients differ from autograd's for " + different);
  }
}

void time_replays(CpuExecution& execution, std::int32_t replays, StepTrace& trace) {
  std::vector<std::vector<Nanoseconds>> runs;
  for (std::int32_t i = 0; i < std::max(replays, 1); ++i)
    runs.push_back(execution.time_operators());
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    std::vector<Nanoseconds> times;
    for (const auto& run : runs) times.push_back(run[o]);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                     times.end());
    trace.ops[o].duration = times[times.size() / 2];
  }
}

std::vector<StaticTensor> static_tensors(const Interpreter& interpreter) {
  std::vector<StaticTensor> tensors;
  for (const NamedTensor& entry : interpreter.static_tensors()) {
    tensors.push_back({entry.name, entry.role, entry.tensor});
  }
  return tensors;
}

}  // namespace

CpuDevice::CpuDevice(std::int32_t threads) {
  CountingAllocator::install();
  if (threads > 0) at::set_num_threads(threads);
}

TraceDevice CpuDevice::description() const {
  return {.kind = DeviceKind::cpu,
          .name = processor_name(),
          .threads = at::get_num_threads(),
          .copy_bytes_per_second = copy_bytes_per_second()};
}

RecordedStep CpuDevice::record(const Program& program, const RecordOptions& options) {
  RecordedStep recorded;
  EagerStep step(program, options);
  measure_eager(step, recorded);
  const GradientBytes before = gradient_bytes(step);
  record_step(step, options, recorded);
  const bool is_deterministic = gradient_bytes(step) == before;
  recorded.trace.device = description();
  recorded.trace.provenance.framework = std::string("torch ") + TORCH_VERSION;
  recorded.trace.provenance.host = recorded.trace.device.name;
  note_gradients(step, recorded);
  const std::vector<std::string> broken = check_trace(recorded.trace);
  if (!broken.empty()) throw InternalError("the recorded step breaks a rule: " + broken.front());

  // The replay starts from the same values; autograd's gradients stay for the comparison.
  std::vector<at::Tensor> gradients;
  for (const StaticTensor& parameter : step.parameters()) {
    gradients.push_back(parameter.tensor.grad().defined() ? parameter.tensor.grad().clone()
                                                          : at::Tensor());
  }
  step.reset();
  CpuExecution execution(recorded.trace, fill_from(recorded.trace, step.statics()));
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    step.parameters()[i].tensor.mutable_grad() = gradients[i];
  }
  compare_replay(step, execution, recorded);
  if (!is_deterministic) {
    recorded.replay = GradientVerdict::not_comparable;
    recorded.notes = {
        "two steps of PyTorch itself give different gradients (some kernels add in the order in "
        "which threads arrive); with --threads 1 they are comparable"};
  }
  time_replays(execution, options.timing_replays, recorded.trace);
  return recorded;
}

std::unique_ptr<Execution> CpuDevice::prepare(const StepTrace& trace, const Program* values) {
  if (trace.device.kind != DeviceKind::cpu) {
    throw InputError("the trace was recorded on " + trace.device.name +
                     " and executes only there; record the step again with --device cpu");
  }
  if (trace.device.threads != at::get_num_threads()) {
    throw InputError("the trace was recorded with " + std::to_string(trace.device.threads) +
                     " threads and this run has " + std::to_string(at::get_num_threads()) +
                     "; give --threads " + std::to_string(trace.device.threads));
  }
  if (values == nullptr) return std::make_unique<CpuExecution>(trace, fill_from(trace, {}));
  const Interpreter interpreter(*values, c10::Device(c10::kCPU), trace.provenance.seed);
  return std::make_unique<CpuExecution>(trace, fill_from(trace, static_tensors(interpreter)));
}

}  // namespace tidemark
