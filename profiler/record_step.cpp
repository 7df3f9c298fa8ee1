#include "record_step.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "call_values.hpp"
#include "counting_allocator.hpp"
#include "executor.hpp"
#include "optimizer_step.hpp"
#include "recorded_call.hpp"
#include "storage_table.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

constexpr int timed_steps = 3;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What a device copies in a second, as copies of checkpoints do: plain memory to plain memory.
double measure_copy_bandwidth() {
  constexpr std::size_t size = std::size_t{64} << 20;
  const std::unique_ptr<std::uint8_t[]> from(new std::uint8_t[size]);
  const std::unique_ptr<std::uint8_t[]> to(new std::uint8_t[size]);
  std::memset(from.get(), 1, size);
  std::memset(to.get(), 2, size);
  std::vector<double> rates;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(to.get(), from.get(), size);
    rates.push_back(static_cast<double>(size) / seconds_since(start));
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

class StepRecording {
 public:
  StepRecording(const TrainingStep& step, const RecordOptions& options)
      : step_(step), options_(options), statics_(step.static_tensors) {
    for (const StaticTensor& entry : step.static_tensors) {
      if (entry.role != Role::parameter || !entry.tensor.requires_grad()) continue;
      const bool is_known =
          std::any_of(parameters_.begin(), parameters_.end(), [&](const StaticTensor& known) {
            return known.tensor.is_same(entry.tensor);
          });
      if (!is_known) parameters_.push_back(entry);
    }
  }

  [[nodiscard]] RecordedStep record() {
    save_values();
    warm();
    time_eager();
    record_once();
    clear_gradients();
    restore_values();
    replay();
    return std::move(recorded_);
  }

 private:
  struct Saved {
    at::Tensor tensor;
    std::vector<std::uint8_t> bytes;
  };

  void save(const at::Tensor& tensor) { saved_.push_back({tensor, bytes_of(tensor.storage())}); }
  void save_values();
  void restore_values() const;
  void prepare_step() const;
  void run_step() const;
  void warm();
  void time_eager();
  void record_once();
  void clear_gradients() const;
  void replay();
  [[nodiscard]] Bytes static_bytes() const;

  const TrainingStep& step_;
  const RecordOptions& options_;
  std::vector<StaticTensor> statics_;  // with accumulated gradients and optimizer states
  std::vector<StaticTensor> parameters_;
  std::vector<Saved> saved_;
  std::unique_ptr<OptimizerStep> optimizer_;
  StepResults autograd_;
  RecordedStep recorded_;
};

// ---- values ----------------------------------------------------------------------------------

// What a step may overwrite: buffers, and parameters where there is an optimizer.
void StepRecording::save_values() {
  for (const StaticTensor& entry : step_.static_tensors) {
    const bool is_updated =
        entry.role == Role::parameter && options_.optimizer != Optimizer::none;
    if (entry.role == Role::buffer || entry.role == Role::input || is_updated) save(entry.tensor);
  }
}

void StepRecording::restore_values() const {
  for (const Saved& saved : saved_) {
    if (saved.bytes.empty()) continue;
    std::memcpy(saved.tensor.storage().mutable_data(), saved.bytes.data(), saved.bytes.size());
  }
}

void StepRecording::clear_gradients() const {
  for (const StaticTensor& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

Bytes StepRecording::static_bytes() const {
  std::set<const c10::StorageImpl*> known;
  Bytes bytes = 0;
  for (const StaticTensor& entry : statics_) {
    const c10::Storage& storage = entry.tensor.storage();
    if (known.insert(storage.unsafeGetStorageImpl()).second) {
      bytes += static_cast<Bytes>(storage.nbytes());
    }
  }
  return bytes;
}

// ---- steps -----------------------------------------------------------------------------------

void StepRecording::prepare_step() const {
  restore_values();
  if (!options_.accumulate_gradients) clear_gradients();
  seed_generator(options_.seed);
}

void StepRecording::run_step() const {
  ForwardResult result = step_.forward();
  result.outputs.clear();
  torch::autograd::backward({result.loss}, {});
  if (optimizer_) optimizer_->step();
}

void StepRecording::warm() {
  prepare_step();
  std::vector<at::Tensor> tensors;
  for (const StaticTensor& parameter : parameters_) tensors.push_back(parameter.tensor);
  optimizer_ = make_optimizer_step(options_.optimizer, options_.optimizer_form, tensors);
  run_step();
  if (optimizer_) {
    for (const OptimizerState& state : optimizer_->states()) {
      const std::string name = parameters_[state.parameter].name + "." + state.name;
      statics_.push_back({name, Role::optimizer_state, state.tensor});
      save(state.tensor);
    }
  }
  if (!options_.accumulate_gradients) return;
  for (const StaticTensor& parameter : parameters_) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    statics_.push_back({parameter.name, Role::gradient, gradient});
    save(gradient);
  }
}

void StepRecording::time_eager() {
  CountingAllocator& allocator = CountingAllocator::install();
  std::vector<double> times;
  for (int i = 0; i < timed_steps; ++i) {
    prepare_step();
    allocator.reset_peak();
    const Bytes base = allocator.current_bytes();
    const auto start = std::chrono::steady_clock::now();
    run_step();
    times.push_back(seconds_since(start));
    recorded_.eager_live_peak_bytes = static_bytes() + allocator.peak_bytes() - base;
  }
  std::sort(times.begin(), times.end());
  recorded_.eager_seconds = times[timed_steps / 2];
}

void StepRecording::record_once() {
  prepare_step();
  StepRecorder recorder(statics_, step_.current_node);
  const auto start = std::chrono::steady_clock::now();
  ForwardResult result = step_.forward();
  recorder.mark_loss(result.loss);
  for (const at::Tensor& output : result.outputs) recorder.mark_output(output);
  result.outputs.clear();
  recorder.set_phase(Phase::backward);
  torch::autograd::backward({result.loss}, {});
  recorder.set_phase(Phase::optimizer);
  if (optimizer_) optimizer_->step();
  recorded_.recording_seconds = seconds_since(start);
  for (const StaticTensor& parameter : parameters_) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    recorder.mark_gradient(parameter.tensor, gradient);
    autograd_.gradients.push_back(elements_of(
        view_of(gradient, no_storage), static_cast<const std::uint8_t*>(gradient.storage().data())));
  }
  autograd_.loss = bytes_of(result.loss.storage());
  const at::Tensor loss = result.loss.detach();
  result.loss.reset();
  recorded_.trace = recorder.finish();
  recorded_.loss = loss.to(at::kDouble).item<double>();
  for (const StaticTensor& parameter : parameters_) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    const at::Tensor norm =
        at::linalg_vector_norm(gradient, 2, std::nullopt, /*keepdim=*/false, at::kDouble);
    recorded_.gradient_norms.push_back({parameter.name, norm.item<double>()});
  }
}

// ---- replay ----------------------------------------------------------------------------------

void StepRecording::replay() {
  StepTrace& trace = recorded_.trace;
  trace.device = {.kind = DeviceKind::cpu,
                  .name = "cpu",
                  .threads = at::get_num_threads(),
                  .copy_bytes_per_second = measure_copy_bandwidth()};
  trace.provenance.seed = options_.seed;
  std::map<std::pair<Role, std::string>, at::Tensor> by_name;
  for (const StaticTensor& entry : statics_) by_name.try_emplace({entry.role, entry.name}, entry.tensor);
  StepExecutor executor(trace, [&](StorageId id, std::uint8_t* bytes) {
    const Storage& storage = trace.storages[index(id)];
    if (storage.value) {
      std::copy(storage.value->begin(), storage.value->end(), bytes);
      return;
    }
    const auto found = by_name.find({storage.role, storage.name});
    if (found == by_name.end()) throw InternalError("a static storage of the step has no tensor");
    std::memcpy(bytes, found->second.storage().data(), static_cast<std::size_t>(storage.bytes));
  });
  const std::vector<Nanoseconds> durations = executor.time_operators(options_.timing_replays);
  for (std::size_t o = 0; o < durations.size(); ++o) trace.ops[o].duration = durations[o];
  const StepExecutor::Reference& reference = executor.reference();
  if (!reference.results) {
    recorded_.replay = GradientVerdict::not_comparable;
    recorded_.notes.push_back(reference.note);
    return;
  }
  const std::string difference = describe_difference(trace, autograd_, *reference.results);
  recorded_.replay = difference.empty() ? GradientVerdict::equal : GradientVerdict::differ;
  if (!difference.empty()) recorded_.notes.push_back("replay against autograd: " + difference);
}

}  // namespace

RecordedStep record_step(const TrainingStep& step, const RecordOptions& options) {
  CountingAllocator::install();
  return StepRecording(step, options).record();
}

}  // namespace tidemark
