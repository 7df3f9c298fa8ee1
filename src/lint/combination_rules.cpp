// Keys that do not go together, and keys that cost without a gain.
// Source: deepspeed/runtime/activation_checkpointing/{checkpointing,offload_activations}.py.
#include <algorithm>
#include <array>

#include "rules.hpp"

namespace tidemark {

namespace {

using Hits = std::vector<LintHit>;

constexpr DeepSpeedVersion first_number_assert{.major = 0, .minor = 19, .patch = 3};
constexpr DeepSpeedVersion first_cpu_alone{.major = 0, .minor = 5, .patch = 2};
constexpr DeepSpeedVersion first_async{.major = 0, .minor = 19, .patch = 6};

Hits contiguous_without_partition(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!keys.contiguous_memory_optimization || keys.partition_activations) return {};
  return {hit_in_block(
      subject, "contiguous_memory_optimization",
      "DeepSpeed fails with AssertionError: Contiguous Checkpointing is only available with "
      "partitioned activations. Set partitioned activations to true in deepspeed config",
      "Set partition_activations to true, or turn this off.")};
}

// number_checkpoints is missing or null; a value of another type has a rule of its own.
bool has_no_number(const LintSubject& subject) {
  const HjsonObject* block = block_keys_of(subject);
  const HjsonMember* member =
      block == nullptr ? nullptr : find_member(*block, "number_checkpoints");
  return member == nullptr || std::holds_alternative<std::monostate>(member->value.value);
}

Hits contiguous_without_number(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!keys.contiguous_memory_optimization || !keys.partition_activations) return {};
  if (!has_no_number(subject)) return {};
  std::string message =
      "DeepSpeed fails with AssertionError: Must specify the number of layers with contiguous "
      "memory checkpointing";
  if (subject.deepspeed_version < first_number_assert) {
    message +=
        "; before 0.19.3 a configure() with keyword arguments instead of this file passes and "
        "the first checkpoint fails with IndexError: list index out of range";
  }
  return {
      hit_in_block(subject, "number_checkpoints", std::move(message),
                   "Set number_checkpoints to the number of checkpoints that one forward makes.")};
}

bool has_buffers(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  return keys.contiguous_memory_optimization && keys.partition_activations &&
         keys.number_checkpoints && *keys.number_checkpoints > 0;
}

Hits contiguous_overflow(const LintSubject& subject) {
  if (!has_buffers(subject) || !subject.checkpoints) return {};
  const std::int64_t number = *keys_of(subject).number_checkpoints;
  if (number >= *subject.checkpoints) return {};
  return {
      hit_in_block(subject, "number_checkpoints",
                   "DeepSpeed fails with IndexError: list index out of range at checkpoint " +
                       std::to_string(number + 1) + " of " + std::to_string(*subject.checkpoints) +
                       ": there are buffers for " + std::to_string(number),
                   "Set number_checkpoints to at least " + std::to_string(*subject.checkpoints) +
                       ", counting every forward before the first backward.")};
}

Hits contiguous_spare(const LintSubject& subject) {
  if (!has_buffers(subject) || !subject.checkpoints) return {};
  const std::int64_t spare = *keys_of(subject).number_checkpoints - *subject.checkpoints;
  if (spare <= 0) return {};
  return {hit_in_block(subject, "number_checkpoints",
                       "DeepSpeed allocates " + std::to_string(spare) +
                           " buffers a checkpointed argument that nothing uses, until the first "
                           "backward",
                       "Set number_checkpoints to " + std::to_string(*subject.checkpoints) + ".")};
}

Hits contiguous_needs_reset(const LintSubject& subject) {
  if (!has_buffers(subject)) return {};
  return {hit_in_block(
      subject, "contiguous_memory_optimization",
      "buffers are given back by backward only: forwards without one, as in evaluation, end in "
      "IndexError: list index out of range",
      "Call deepspeed.checkpointing.reset() after each forward that has no backward.")};
}

Hits number_without_contiguous(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!keys.number_checkpoints || keys.contiguous_memory_optimization) return {};
  return {hit_in_block(
      subject, "number_checkpoints",
      "DeepSpeed itself uses this number only to size contiguous buffers; how many checkpoints "
      "there are is decided by the training code",
      "Group the layers in the training code as the recommended segments say; tidemark export --to "
      "deepspeed writes them.")};
}

Hits partition_needs_model_parallelism(const LintSubject& subject) {
  if (!keys_of(subject).partition_activations || subject.model_parallel_size) return {};
  return {hit_in_block(
      subject, "partition_activations",
      "DeepSpeed divides by the model-parallel size of the mpu object, never by the data-parallel "
      "or ZeRO size; without an mpu it is 1, which saves nothing and copies every checkpoint once",
      "Pass mpu to deepspeed.checkpointing.configure(), or turn this off; --model-parallel-size "
      "tells it to this check.")};
}

Hits partition_saves_nothing(const LintSubject& subject) {
  if (!keys_of(subject).partition_activations || subject.model_parallel_size != 1) return {};
  return {hit_in_block(subject, "partition_activations",
                       "with a model-parallel size of 1 DeepSpeed copies every checkpoint and "
                       "saves nothing",
                       "Turn it off.")};
}

Hits partition_other_arguments(const LintSubject& subject) {
  if (!keys_of(subject).partition_activations) return {};
  return {hit_in_block(
      subject, "partition_activations",
      "where checkpoint() gets an argument that is no tensor, such as None or a flag, the "
      "recomputation gets a stray None behind it and fails or goes wrong",
      "Pass tensors only; bind everything else with functools.partial.")};
}

Hits partition_with_sequence_parallel(const LintSubject& subject) {
  if (!keys_of(subject).partition_activations || !subject.sequence_parallel) return {};
  return {hit_in_block(
      subject, "partition_activations",
      "under sequence parallelism the ranks' inputs differ already; DeepSpeed keeps one slice of "
      "each and gathers slices of different inputs into one: the recomputation is wrong",
      "Turn it off: sequence parallelism has divided the checkpoints already.")};
}

Hits cpu_needs_partition(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!keys.cpu_checkpointing || keys.partition_activations) return {};
  if (subject.deepspeed_version >= first_cpu_alone) return {};
  return {
      hit_in_block(subject, "cpu_checkpointing",
                   "DeepSpeed before 0.5.2 fails with AssertionError: CPU Checkpointing/Contiguous "
                   "Checkpointing is only availble with partitioned activations",
                   "Upgrade DeepSpeed, or set partition_activations to true.")};
}

Hits cpu_blocking(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!keys.cpu_checkpointing || offloads_asynchronously(subject)) return {};
  const bool is_old = subject.deepspeed_version < first_async;
  return {hit_in_block(
      subject, "cpu_checkpointing",
      "DeepSpeed copies each checkpoint to pageable host memory and back while computation "
      "waits" +
          std::string(is_old ? "" : ", because partition_activations is on"),
      is_old ? "Use DeepSpeed 0.19.6 or newer, which copies asynchronously to pinned memory."
             : "Turn partition_activations off where its saving is not needed; then the copies "
               "are asynchronous.")};
}

Hits cpu_non_reentrant(const LintSubject& subject) {
  if (!keys_of(subject).cpu_checkpointing || subject.deepspeed_version >= first_async) return {};
  const HjsonMember* pipeline = find_member(subject.config.root, "pipeline");
  const auto* keys =
      pipeline == nullptr ? nullptr : std::get_if<HjsonObject>(&pipeline->value.value);
  const HjsonMember* reentrant = keys == nullptr ? nullptr : find_member(*keys, "use_reentrant");
  if (reentrant == nullptr || is_truthy(reentrant->value)) return {};
  return {{.key = "pipeline.use_reentrant",
           .message = "before 0.19.6 DeepSpeed's non-reentrant checkpointing empties its inputs "
                      "for cpu_checkpointing and never restores them",
           .remedy = "Use DeepSpeed 0.19.6 or newer, or leave use_reentrant at true.",
           .place = reentrant->key_range}};
}

Hits async_needs_backward(const LintSubject& subject) {
  if (!offloads_asynchronously(subject)) return {};
  return {hit_in_block(
      subject, "cpu_checkpointing",
      "resetting DeepSpeed's checkpointing between forward and backward loses the offloaded "
      "inputs: RuntimeError: offloaded activation ... is no longer tracked",
      "Call deepspeed.checkpointing.reset() only where no backward is outstanding.")};
}

Hits costs_time(const LintSubject& subject) {
  Hits hits;
  for (const auto& [key, is_on] : {std::pair("synchronize_checkpoint_boundary",
                                             keys_of(subject).synchronize_checkpoint_boundary),
                                   std::pair("profile", keys_of(subject).profile)}) {
    if (!is_on) continue;
    hits.push_back(hit_in_block(
        subject, key,
        "DeepSpeed synchronises the device around every checkpoint; it costs time and changes no "
        "memory",
        "Use it to look for a problem, not to train."));
  }
  return hits;
}

Hits profile_nested(const LintSubject& subject) {
  if (!keys_of(subject).profile) return {};
  return {hit_in_block(
      subject, "profile",
      "a checkpoint inside a checkpoint fails with AssertionError: fwd timer has already been "
      "started, and the time called backward holds the recomputation too",
      "Turn it off; tidemark's recompute time is the recomputation alone.")};
}

Hits grad_is_refused(const LintSubject& subject) {
  if (!is_active(subject)) return {};
  return {hit_in_block(
      subject, "",
      "torch.autograd.grad() over a checkpoint fails with RuntimeError: Checkpointing is not "
      "compatible with .grad(), please use .backward() if possible",
      "Call loss.backward().")};
}

Hits pipeline_interval(const LintSubject& subject) {
  const HjsonMember* pipeline = find_member(subject.config.root, "pipeline");
  const auto* keys =
      pipeline == nullptr ? nullptr : std::get_if<HjsonObject>(&pipeline->value.value);
  const HjsonMember* interval =
      keys == nullptr ? nullptr : find_member(*keys, "activation_checkpoint_interval");
  if (interval == nullptr || !is_truthy(interval->value)) return {};
  return {{.key = "pipeline.activation_checkpoint_interval",
           .message = "it counts every function of a stage, so a group that starts with the "
                      "embedding is checkpointed with it and the embedding gets no gradient "
                      "(reentrant), or is silently not checkpointed (GPT2ModelPipe)",
           .remedy = "Name the layers' class in PipelineModule's checkpointable_layers.",
           .place = interval->key_range}};
}

}  // namespace

std::span<const LintRule> combination_rules() {
  static constexpr std::array<LintRule, 18> rules{{
      {"contiguous-without-partition", Severity::error,
       "contiguous buffers need partitioned activations", "deepspeedai/DeepSpeed#598",
       contiguous_without_partition},
      {"contiguous-without-number", Severity::error, "contiguous buffers need a number",
       "deepspeedai/DeepSpeed#8041", contiguous_without_number},
      {"contiguous-overflow", Severity::error,
       "more checkpoints than contiguous buffers make DeepSpeed fail", "deepspeedai/DeepSpeed#3005",
       contiguous_overflow},
      {"contiguous-spare", Severity::warning,
       "more contiguous buffers than checkpoints waste memory until the first backward",
       "deepspeedai/DeepSpeed#1376", contiguous_spare},
      {"contiguous-needs-reset", Severity::note,
       "forwards without a backward use the contiguous buffers up", "deepspeedai/DeepSpeed#3005",
       contiguous_needs_reset},
      {"number-without-contiguous", Severity::note,
       "number_checkpoints sizes contiguous buffers and does nothing else",
       "deepspeedai/DeepSpeed#5704", number_without_contiguous},
      {"partition-needs-model-parallelism", Severity::note,
       "partition_activations divides by the model-parallel size, which is 1 without an mpu",
       "deepspeedai/DeepSpeed#3779", partition_needs_model_parallelism},
      {"partition-saves-nothing", Severity::warning,
       "partitioning over one rank copies and saves nothing", "deepspeedai/DeepSpeed#3779",
       partition_saves_nothing},
      {"partition-other-arguments", Severity::note,
       "arguments that are no tensors corrupt the recomputation's argument list",
       "deepspeedai/DeepSpeed#8455", partition_other_arguments},
      {"partition-with-sequence-parallel", Severity::error,
       "partitioning inputs that differ between ranks is wrong", "deepspeedai/DeepSpeed#580",
       partition_with_sequence_parallel},
      {"cpu-needs-partition", Severity::error,
       "before 0.5.2 cpu_checkpointing needs partition_activations", "deepspeedai/DeepSpeed#541",
       cpu_needs_partition},
      {"cpu-blocking", Severity::warning,
       "before 0.19.6, and always with partitioning, offload waits for pageable copies",
       "deepspeedai/DeepSpeed#8282", cpu_blocking},
      {"cpu-non-reentrant", Severity::error,
       "before 0.19.6 offload and pipeline.use_reentrant false do not work together",
       "deepspeedai/DeepSpeed#8282", cpu_non_reentrant},
      {"async-needs-backward", Severity::note,
       "a reset before backward loses asynchronously offloaded inputs",
       "deepspeedai/DeepSpeed#8282", async_needs_backward},
      {"costs-time", Severity::warning,
       "synchronize_checkpoint_boundary and profile synchronise around every checkpoint",
       "deepspeedai/DeepSpeed#522", costs_time},
      {"profile-nested", Severity::note, "profile fails on nested checkpoints",
       "deepspeed/utils/timer.py", profile_nested},
      {"grad-is-refused", Severity::note, "torch.autograd.grad() does not pass a checkpoint",
       "deepspeed/runtime/activation_checkpointing/checkpointing.py", grad_is_refused},
      {"pipeline-interval", Severity::warning,
       "activation_checkpoint_interval counts every function of a stage, the embedding too",
       "deepspeedai/DeepSpeed#4274", pipeline_interval},
  }};
  return rules;
}

}  // namespace tidemark
