#include "executor.hpp"

#include <torch/library.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "recorded_model.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

std::string gelu_failure;  // what the operator below says; empty: it works

at::Tensor gelu_that_may_fail(const at::Tensor& self, std::string_view approximate) {
  TORCH_CHECK(gelu_failure.empty(), gelu_failure);
  return at::gelu(self, approximate);
}

TORCH_LIBRARY_FRAGMENT(tidemark_test, library) {
  library.def("gelu(Tensor self, *, str approximate='none') -> Tensor", &gelu_that_may_fail);
}

Schedule plain(const StepTrace& trace) {
  return std::get<BuiltSchedule>(build_schedule(trace, {}, Setting{})).schedule;
}

// A schedule is carried out as it was predicted: bytes, terms, both timelines, gradients.
Measurement execute_as_predicted(const RecordedModel& model, const Schedule& schedule) {
  for (const Violation& violation : validate(model.trace, schedule)) FAIL(violation.message);
  const Prediction prediction = simulate(model.trace, schedule);
  StepExecution execution(backend(), model.trace, values_of(model));
  const Measurement measured = execution.execute(schedule, {.repeat = 2, .warm_up = 1});
  REQUIRE(measured.figures.live_peak_bytes == prediction.figures.live_peak_bytes);
  REQUIRE(measured.figures.static_bytes == prediction.figures.static_bytes);
  REQUIRE(measured.figures.host_peak_bytes == prediction.figures.host_peak_bytes);
  REQUIRE(measured.figures.peak_breakdown == prediction.figures.peak_breakdown);
  REQUIRE(measured.figures.peak_term == prediction.figures.peak_term);
  REQUIRE(measured.figures.peak_op == prediction.figures.peak_op);
  REQUIRE(measured.figures.transfer_bytes == prediction.figures.transfer_bytes);
  REQUIRE(measured.timeline == prediction.timeline);
  REQUIRE(measured.gradients == GradientVerdict::equal);
  REQUIRE_FALSE(measured.out_of_memory);
  return measured;
}

// ---- schedules made by hand -----------------------------------------------------------------

std::optional<InstanceId> instance_of(const StepTrace& trace, const Schedule& schedule,
                                      StorageId storage) {
  for (const Step& step : schedule.steps) {
    const auto* run = std::get_if<Run>(&step.action);
    if (run == nullptr) continue;
    const std::vector<StorageId>& creates = trace.ops[index(run->op)].creates;
    const auto found = std::find(creates.begin(), creates.end(), storage);
    if (found != creates.end()) {
      return run->creates[static_cast<std::size_t>(found - creates.begin())];
    }
  }
  return std::nullopt;
}

bool uses(const Step& step, InstanceId id) {
  const auto* run = std::get_if<Run>(&step.action);
  if (run == nullptr) return false;
  return std::find(run->reads.begin(), run->reads.end(), id) != run->reads.end() ||
         std::find(run->writes.begin(), run->writes.end(), id) != run->writes.end();
}

struct Lifetime {
  std::size_t creation = 0;
  std::size_t last_forward_use = 0;
  std::size_t first_backward_use = 0;
};

Lifetime lifetime_of(const StepTrace& trace, const Schedule& schedule, InstanceId id) {
  Lifetime lifetime;
  for (std::size_t s = 0; s < schedule.steps.size(); ++s) {
    const auto* run = std::get_if<Run>(&schedule.steps[s].action);
    if (run == nullptr) continue;
    const bool creates =
        std::find(run->creates.begin(), run->creates.end(), id) != run->creates.end();
    if (creates) lifetime.creation = lifetime.last_forward_use = s;
    if (!uses(schedule.steps[s], id)) continue;
    if (trace.ops[index(run->op)].phase == Phase::forward) {
      lifetime.last_forward_use = s;
    } else if (lifetime.first_backward_use == 0) {
      lifetime.first_backward_use = s;
    }
  }
  return lifetime;
}

// Everything from `from` on speaks of another instance.
void rename(Schedule& schedule, std::size_t from, InstanceId old_id, InstanceId new_id) {
  for (std::size_t s = from; s < schedule.steps.size(); ++s) {
    if (auto* run = std::get_if<Run>(&schedule.steps[s].action)) {
      std::replace(run->reads.begin(), run->reads.end(), old_id, new_id);
      std::replace(run->writes.begin(), run->writes.end(), old_id, new_id);
    } else if (auto* freed = std::get_if<Free>(&schedule.steps[s].action)) {
      if (freed->instance == old_id) freed->instance = new_id;
    }
  }
}

InstanceId add_instance(Schedule& schedule, const Instance& instance) {
  schedule.instances.push_back(instance);
  return make_id<InstanceId>(schedule.instances.size() - 1);
}

void insert(Schedule& schedule, std::size_t at, std::vector<Step> steps) {
  schedule.steps.insert(schedule.steps.begin() + static_cast<std::ptrdiff_t>(at), steps.begin(),
                        steps.end());
}

const Op& first(const StepTrace& trace, const std::string& name) {
  const auto found = std::find_if(trace.ops.begin(), trace.ops.end(),
                                  [&](const Op& op) { return op.name == name; });
  INFO(name);
  REQUIRE(found != trace.ops.end());
  return *found;
}

// A storage of forward is freed after its last use there; what made it and wrote to it runs again
// before backward reads it.
Schedule with_recomputation(const StepTrace& trace, Schedule schedule, StorageId storage) {
  const InstanceId old_id = *instance_of(trace, schedule, storage);
  const Lifetime lifetime = lifetime_of(trace, schedule, old_id);
  REQUIRE(lifetime.first_backward_use > lifetime.last_forward_use);
  const InstanceId new_id = add_instance(schedule, {.storage = storage,
                                                    .number = 1,
                                                    .bytes = trace.storages[index(storage)].bytes,
                                                    .place = Place::device,
                                                    .term = Term::recomputed_segment});
  std::vector<Step> again;
  for (std::size_t s = lifetime.creation; s <= lifetime.last_forward_use; ++s) {
    const auto* run = std::get_if<Run>(&schedule.steps[s].action);
    if (run == nullptr) continue;
    const bool writes =
        std::find(run->writes.begin(), run->writes.end(), old_id) != run->writes.end();
    if (s != lifetime.creation && !writes) continue;
    Run copy = *run;
    std::replace(copy.reads.begin(), copy.reads.end(), old_id, new_id);
    std::replace(copy.writes.begin(), copy.writes.end(), old_id, new_id);
    for (InstanceId& id : copy.creates) id = id == old_id ? new_id : unnamed_instance;
    again.push_back({copy, Cause::recompute});
  }
  rename(schedule, lifetime.last_forward_use + 1, old_id, new_id);
  insert(schedule, lifetime.first_backward_use, again);
  insert(schedule, lifetime.last_forward_use + 1, {{Free{old_id}, Cause::recorded}});
  return schedule;
}

// What one operator made waits on the host until backward needs it.
Schedule with_offload(const StepTrace& trace, Schedule schedule, const std::string& name, Queue out,
                      Queue back) {
  const auto op = std::find_if(trace.ops.begin(), trace.ops.end(),
                               [&](const Op& candidate) { return candidate.name == name; });
  REQUIRE(op != trace.ops.end());
  const StorageId storage = op->creates.front();
  const Bytes bytes = trace.storages[index(storage)].bytes;
  const InstanceId old_id = *instance_of(trace, schedule, storage);
  const Lifetime lifetime = lifetime_of(trace, schedule, old_id);
  const InstanceId host = add_instance(schedule, {.storage = storage,
                                                  .number = 1,
                                                  .bytes = bytes,
                                                  .place = Place::host_pinned,
                                                  .term = Term::held_checkpoints});
  const InstanceId fetched = add_instance(schedule, {.storage = storage,
                                                     .number = 2,
                                                     .bytes = bytes,
                                                     .place = Place::device,
                                                     .term = Term::held_checkpoints});
  rename(schedule, lifetime.last_forward_use + 1, old_id, fetched);
  const std::size_t first = lifetime.last_forward_use + 1;
  // The four steps of the way out stand in front of it.
  const std::size_t second = lifetime.first_backward_use + 4;
  insert(schedule, lifetime.first_backward_use,
         {{Allocate{fetched}, Cause::fetch},
          {Copy{.from = host,
                .to = fetched,
                .from_offset = 0,
                .to_offset = 0,
                .bytes = bytes,
                .queue = back},
           Cause::fetch},
          {Wait{Queue::compute, make_id<StepId>(second + 1)}, Cause::fetch},
          {Free{host}, Cause::fetch}});
  insert(schedule, first,
         {{Allocate{host}, Cause::offload},
          {Copy{.from = old_id,
                .to = host,
                .from_offset = 0,
                .to_offset = 0,
                .bytes = bytes,
                .queue = out},
           Cause::offload},
          {Wait{Queue::compute, make_id<StepId>(first + 1)}, Cause::offload},
          {Free{old_id}, Cause::offload}});
  return schedule;
}

// ---- tests -------------------------------------------------------------------------------------

TEST_CASE("the replay of a recorded step has autograd's gradients, bit for bit, and its peak") {
  const std::vector<std::pair<std::string, Model>> models{
      {"multilayer perceptron", multilayer_perceptron()},
      {"convolutions", convolutions()},
      {"attention", attention(0)},
      {"attention with dropout", attention(0.2)},
      {"in-place operators", in_place_operators()}};
  for (const auto& [name, model] : models) {
    INFO(name);
    const RecordedModel recorded = record(model);
    REQUIRE(check_trace(recorded.trace).empty());
    const Measurement measured = execute_as_predicted(recorded, plain(recorded.trace));
    // Python numbers live only while their operator runs in eager; in a trace they are static.
    Bytes constants = 0;
    for (const Storage& storage : recorded.trace.storages) {
      if (storage.role == Role::constant) constants += storage.bytes;
    }
    REQUIRE(measured.figures.live_peak_bytes >= recorded.eager_live_peak_bytes);
    REQUIRE(measured.figures.live_peak_bytes <= recorded.eager_live_peak_bytes + constants);

    const StepExecution execution(backend(), recorded.trace, values_of(recorded));
    for (std::size_t g = 0; g < recorded.gradients.size(); ++g) {
      const StorageId id = recorded.trace.gradients[g].second.storage;
      REQUIRE(execution.judge().reference().at(id) == recorded.gradients[g]);
    }
    REQUIRE(execution.judge().reference().at(*recorded.trace.loss) == recorded.loss);
  }
}

TEST_CASE("an operator that runs again gives the same bytes and frees its memory in between") {
  const RecordedModel recorded = record(multilayer_perceptron());
  const StorageId made = first(recorded.trace, "aten::addmm").creates.front();
  const Schedule schedule = with_recomputation(recorded.trace, plain(recorded.trace), made);
  const Measurement measured = execute_as_predicted(recorded, schedule);
  REQUIRE(*measured.figures.recompute_seconds > 0);
}

// The first run leaves `omitted` out, as an operator does whose form with gradients off does not
// keep it: what it takes for it then is the call's own.
Schedule first_without(RecordedModel& recorded, Schedule schedule, StorageId omitted) {
  const InstanceId old_id = *instance_of(recorded.trace, schedule, omitted);
  for (Step& step : schedule.steps) {
    auto* run = std::get_if<Run>(&step.action);
    if (run == nullptr) continue;
    const auto made = std::find(run->creates.begin(), run->creates.end(), old_id);
    if (made == run->creates.end()) continue;
    *made = unnamed_instance;
    run->gradients = Gradients::off;
    Op& op = recorded.trace.ops[index(run->op)];
    NoGradForm form{.omits = {omitted},
                    .workspace_bytes = op.workspace_bytes,
                    .allocations = {},
                    .call = *op.call};
    form.workspace_bytes += recorded.trace.storages[index(omitted)].bytes;
    for (CallValue& result : form.call->results) {
      const auto* view = std::get_if<TensorView>(&result.value);
      if (view != nullptr && view->storage == omitted) result.value = NullValue{};
    }
    op.no_grad = std::move(form);
  }
  std::erase_if(schedule.steps, [&](const Step& step) {
    const auto* freed = std::get_if<Free>(&step.action);
    return freed != nullptr && freed->instance == old_id;
  });
  return schedule;
}

TEST_CASE("an operator runs first as with gradients off, and again as recorded") {
  RecordedModel recorded = record(attention(0));
  const Op& kernel = first(recorded.trace, "aten::_scaled_dot_product_flash_attention_for_cpu");
  const StorageId log_sum_exp = kernel.creates.back();
  REQUIRE(kernel.creates.size() == 2);
  const Schedule again = with_recomputation(recorded.trace, plain(recorded.trace), log_sum_exp);
  const Schedule schedule = first_without(recorded, again, log_sum_exp);
  execute_as_predicted(recorded, schedule);
}

TEST_CASE("dropout that runs again draws the same mask, and later draws are undisturbed") {
  const RecordedModel recorded = record(attention(0.2));
  const auto random = std::find_if(recorded.trace.ops.begin(), recorded.trace.ops.end(),
                                   [](const Op& op) { return op.flags.random; });
  REQUIRE(random != recorded.trace.ops.end());
  const StorageId mask = random->writes.front();
  execute_as_predicted(recorded, with_recomputation(recorded.trace, plain(recorded.trace), mask));
}

TEST_CASE("an offloaded storage leaves the device, counts on the host, and comes back") {
  const RecordedModel recorded = record(multilayer_perceptron());
  const auto [out, back] =
      GENERATE(std::pair(Queue::offload, Queue::fetch), std::pair(Queue::compute, Queue::compute),
               std::pair(Queue::offload, Queue::offload));
  const Schedule schedule =
      with_offload(recorded.trace, plain(recorded.trace), "aten::addmm", out, back);
  const Measurement measured = execute_as_predicted(recorded, schedule);
  const Bytes bytes = 8 * 64 * 4;  // the first layer's output
  REQUIRE(measured.figures.host_peak_bytes == bytes);
  REQUIRE(measured.figures.transfer_bytes == 2 * bytes);
  REQUIRE(*measured.figures.transfer_seconds > 0);
}

TEST_CASE("what outlives the step may come back from the host at its end") {
  const RecordedModel recorded = record(multilayer_perceptron());
  Schedule schedule = plain(recorded.trace);
  const StorageId gradient = recorded.trace.gradients.front().second.storage;
  const Bytes bytes = recorded.trace.storages[index(gradient)].bytes;
  const InstanceId made = *instance_of(recorded.trace, schedule, gradient);
  Instance copy{.storage = gradient, .number = 1, .bytes = bytes, .place = Place::host_pinned};
  const InstanceId host = add_instance(schedule, copy);
  copy.number = 2;
  copy.place = Place::device;
  const InstanceId back = add_instance(schedule, copy);
  const auto move = [&](InstanceId from, InstanceId to, Cause cause) {
    schedule.steps.push_back({Allocate{to}, cause});
    schedule.steps.push_back({Copy{.from = from, .to = to, .bytes = bytes}, cause});
    schedule.steps.push_back({Free{from}, cause});
  };
  move(made, host, Cause::offload);
  move(host, back, Cause::fetch);
  execute_as_predicted(recorded, schedule);
}

TEST_CASE("slices that lie with peers count nowhere and are gathered in order") {
  const RecordedModel recorded = record(multilayer_perceptron());
  Schedule schedule = plain(recorded.trace);
  const auto op = std::find_if(recorded.trace.ops.begin(), recorded.trace.ops.end(),
                               [](const Op& candidate) { return candidate.name == "aten::addmm"; });
  const StorageId storage = op->creates.front();
  const Bytes half = recorded.trace.storages[index(storage)].bytes / 2;
  const InstanceId whole = *instance_of(recorded.trace, schedule, storage);
  const Lifetime lifetime = lifetime_of(recorded.trace, schedule, whole);
  Instance slice{.storage = storage,
                 .number = 1,
                 .bytes = half,
                 .place = Place::device,
                 .term = Term::held_checkpoints};
  const InstanceId ours = add_instance(schedule, slice);
  slice.number = 2;
  slice.place = Place::peer;
  const InstanceId theirs = add_instance(schedule, slice);
  const InstanceId gathered = add_instance(schedule, {.storage = storage,
                                                      .number = 3,
                                                      .bytes = 2 * half,
                                                      .place = Place::device,
                                                      .term = Term::held_checkpoints});
  rename(schedule, lifetime.last_forward_use + 1, whole, gathered);
  insert(schedule, lifetime.first_backward_use,
         {{Allocate{gathered}, Cause::gather},
          {Collective{.kind = CollectiveKind::all_gather,
                      .group = 0,
                      .inputs = {ours, theirs},
                      .output = gathered},
           Cause::gather},
          {Free{ours}, Cause::gather},
          {Free{theirs}, Cause::gather}});
  insert(schedule, lifetime.last_forward_use + 1,
         {{Allocate{ours}, Cause::partition},
          {Copy{.from = whole,
                .to = ours,
                .from_offset = 0,
                .to_offset = 0,
                .bytes = half,
                .queue = Queue::compute},
           Cause::partition},
          {Allocate{theirs}, Cause::partition},
          {Copy{.from = whole,
                .to = theirs,
                .from_offset = half,
                .to_offset = 0,
                .bytes = half,
                .queue = Queue::compute},
           Cause::partition},
          {Free{whole}, Cause::partition}});
  const Measurement measured = execute_as_predicted(recorded, schedule);
  REQUIRE(measured.figures.host_peak_bytes == 0);
}

TEST_CASE("parameters that a step updates are as before in the next execution") {
  Model model = multilayer_perceptron();
  std::vector<at::Tensor> parameters;
  for (const StaticTensor& entry : model.statics) {
    if (entry.role == Role::parameter) parameters.push_back(entry.tensor);
  }
  model.optimizer = [parameters] {
    for (at::Tensor parameter : parameters) parameter.add_(parameter.grad(), -0.5);
  };
  const RecordedModel recorded = record(model);
  const Op& last = recorded.trace.ops.back();
  REQUIRE(last.phase == Phase::optimizer);
  REQUIRE(last.writes.size() == 1);
  // Three executions with their own gradients: from updated parameters they would differ.
  execute_as_predicted(recorded, plain(recorded.trace));
}

TEST_CASE("nothing of an execution stays behind") {
  const RecordedModel recorded = record(convolutions());
  const Bytes before = CountingAllocator::install().current_bytes();
  {
    StepExecution execution(backend(), recorded.trace, values_of(recorded));
    const Bytes prepared = CountingAllocator::install().current_bytes();
    const Measurement measured = execution.execute(plain(recorded.trace), {});
    REQUIRE(prepared - before == measured.figures.static_bytes);
    REQUIRE(CountingAllocator::install().current_bytes() == prepared);
  }
  REQUIRE(CountingAllocator::install().current_bytes() == before);
}

TEST_CASE("other tensors of the process do not count as the step's") {
  const RecordedModel recorded = record(multilayer_perceptron());
  StepExecution execution(backend(), recorded.trace, values_of(recorded));
  const at::Tensor bystander = torch::empty({1 << 20});
  const Measurement measured = execution.execute(plain(recorded.trace), {});
  REQUIRE(measured.figures.live_peak_bytes ==
          simulate(recorded.trace, plain(recorded.trace)).figures.live_peak_bytes);
}

TEST_CASE("out of memory is a value, and the next execution works") {
  const RecordedModel recorded = record(multilayer_perceptron());
  StepExecution execution(backend(), recorded.trace, values_of(recorded));
  const Place place = GENERATE(Place::device, Place::host_pageable);
  Schedule schedule = plain(recorded.trace);
  const InstanceId huge = add_instance(schedule, {.storage = no_storage,
                                                  .number = 0,
                                                  .bytes = Bytes{1} << 60,
                                                  .place = place,
                                                  .term = Term::generator_states});
  insert(schedule, schedule.steps.size() / 2, {{Allocate{huge}, Cause::generator_state}});
  const Measurement measured = execution.execute(schedule, {});
  REQUIRE(measured.out_of_memory);
  REQUIRE(measured.gradients == GradientVerdict::not_run);
  REQUIRE(execution.execute(plain(recorded.trace), {}).gradients == GradientVerdict::equal);
}

TEST_CASE("a library without memory is out of memory, any other failure one sentence") {
  RecordedModel recorded = record(multilayer_perceptron());
  for (Op& op : recorded.trace.ops) {
    if (op.name == "aten::gelu") op.name = "tidemark_test::gelu";
  }
  StepExecution execution(backend(), recorded.trace, values_of(recorded));
  const Schedule schedule = plain(recorded.trace);
  gelu_failure = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`";
  const Measurement measured = execution.execute(schedule, {});
  REQUIRE(measured.out_of_memory ==
          "no memory is left outside of PyTorch's allocator: " + gelu_failure);
  gelu_failure = "CUDA error: unspecified launch failure\nFor debugging consider";
  REQUIRE_THROWS_AS(execution.execute(schedule, {}), DeviceError);
  REQUIRE_THROWS_WITH(execution.execute(schedule, {}),
                      Catch::StartsWith("operator ") &&
                          Catch::EndsWith(" failed: CUDA error: unspecified launch failure"));
  gelu_failure.clear();
  REQUIRE(execution.execute(schedule, {}).gradients == GradientVerdict::equal);
}

TEST_CASE("an operator that makes another size than recorded is named") {
  RecordedModel recorded = record(multilayer_perceptron());
  const auto op = std::find_if(recorded.trace.ops.begin(), recorded.trace.ops.end(),
                               [](const Op& candidate) { return candidate.name == "aten::gelu"; });
  recorded.trace.storages[index(op->creates.front())].bytes += 4;
  REQUIRE_THROWS_WITH(
      StepExecution(backend(), recorded.trace, values_of(recorded)),
      Catch::Contains("aten::gelu") && Catch::Contains("2048") && Catch::Contains("2052"));
}

TEST_CASE("an operator that this PyTorch lacks is refused by name") {
  RecordedModel recorded = record(multilayer_perceptron());
  recorded.trace.ops.front().name = "aten::no_such_operator";
  REQUIRE_THROWS_AS(StepExecution(backend(), recorded.trace, values_of(recorded)), InputError);
}

TEST_CASE("a schedule that computes something else shows in the gradients") {
  const RecordedModel recorded = record(multilayer_perceptron());
  StepExecution execution(backend(), recorded.trace, values_of(recorded));
  Schedule schedule = plain(recorded.trace);
  // gelu_backward takes its incoming gradient for its input and the other way round.
  for (Step& step : schedule.steps) {
    auto* run = std::get_if<Run>(&step.action);
    if (run == nullptr || recorded.trace.ops[index(run->op)].name != "aten::gelu_backward")
      continue;
    REQUIRE(run->reads.size() == 2);
    std::swap(run->reads[0], run->reads[1]);
  }
  const Measurement measured = execution.execute(schedule, {});
  REQUIRE(measured.gradients == GradientVerdict::differ);
  // What lies below the exchanged operator is the first layer: its weight and its bias.
  REQUIRE_THAT(measured.notes.front(),
               Catch::StartsWith("2 of 6 gradients differ, first that of 0."));
}

}  // namespace
}  // namespace tidemark
