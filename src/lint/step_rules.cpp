// What only a recorded step can tell: whether the setting runs, and whether it gains anything. The
// numbers are those of the sweep, from the same schedule builder and simulator.
#include <algorithm>
#include <array>
#include <variant>

#include "rules.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/report.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark {

namespace {

using Hits = std::vector<LintHit>;

std::int32_t count_blocks(const LintStep& step) {
  std::size_t count = 0;
  for (const BlockRun& run : step.runs) count += run.blocks.size();
  return static_cast<std::int32_t>(count);
}

// How many checkpoints a forward makes: as told, as number_checkpoints says, or one a block.
std::int32_t checkpoint_count(const LintSubject& subject) {
  const std::int32_t blocks = count_blocks(*subject.step);
  if (subject.checkpoints) return std::clamp(*subject.checkpoints, 1, blocks);
  const auto& number = keys_of(subject).number_checkpoints;
  if (!number || *number < 1) return blocks;
  return static_cast<std::int32_t>(std::min<std::int64_t>(*number, blocks));
}

// The block as a setting of the recorded step; absent: there is nothing to say about it.
std::optional<Setting> setting_on_step(const LintSubject& subject) {
  if (subject.step == nullptr || subject.step->runs.empty()) return std::nullopt;
  if (!is_active(subject)) return std::nullopt;
  Setting setting = setting_of(keys_of(subject), subject.model_parallel_size.value_or(1),
                               Method::reentrant, subject.deepspeed_version);
  setting.number_checkpoints = checkpoint_count(subject);
  return setting;
}

std::optional<std::string> refusal(const LintSubject& subject) {
  const auto setting = setting_on_step(subject);
  if (!setting) return std::nullopt;
  const auto built = build_schedule(subject.step->trace, subject.step->runs, *setting);
  const auto* invalid = std::get_if<InvalidSetting>(&built);
  return invalid == nullptr ? std::nullopt : std::optional(invalid->reason);
}

std::optional<StepFigures> figures(const LintSubject& subject, const Setting& setting) {
  const auto built = build_schedule(subject.step->trace, subject.step->runs, setting);
  const auto* schedule = std::get_if<BuiltSchedule>(&built);
  if (schedule == nullptr) return std::nullopt;
  return simulate(subject.step->trace, schedule->schedule).figures;
}

// The schedule builder gives DeepSpeed's own reasons; each rule here stands for one of them.
Hits refused_for(const LintSubject& subject, std::string_view phrase, std::string_view key,
                 std::string remedy) {
  const auto reason = refusal(subject);
  if (!reason || reason->find(phrase) == std::string::npos) return {};
  return {hit_in_block(subject, key, "DeepSpeed fails: " + *reason, std::move(remedy))};
}

Hits partition_not_divisible(const LintSubject& subject) {
  return refused_for(subject, "not divisible by mp", "partition_activations",
                     "Choose a batch and sequence whose product with the width divides by the "
                     "model-parallel size, or turn this off.");
}

Hits input_read_again(const LintSubject& subject) {
  return refused_for(
      subject, "is read again afterwards",
      keys_of(subject).partition_activations ? "partition_activations" : "cpu_checkpointing",
      "Give the checkpoint a copy of the tensor (x.clone()), or turn this off.");
}

Hits contiguous_sizes_differ(const LintSubject& subject) {
  return refused_for(subject, "contiguous buffers hold equal sizes",
                     "contiguous_memory_optimization",
                     "Turn it off: it needs checkpoints of one size.");
}

// What moving the checkpoints away gains: nothing, where something else sets the peak.
Hits does_not_lower_peak(const LintSubject& subject, std::string_view key,
                         void (*turn_off)(Setting&)) {
  const auto setting = setting_on_step(subject);
  if (!setting) return {};
  Setting without = *setting;
  turn_off(without);
  const auto with_it = figures(subject, *setting);
  const auto without_it = figures(subject, without);
  if (!with_it || !without_it || with_it->live_peak_bytes < without_it->live_peak_bytes) return {};
  std::string message =
      "it does not lower this step's peak: " + format_bytes(without_it->live_peak_bytes) +
      " without it, " + format_bytes(with_it->live_peak_bytes) +
      " with it; its largest term there is the " + std::string(title(with_it->peak_term));
  const double bandwidth = subject.step->trace.device.copy_bytes_per_second.value_or(0);
  if (with_it->transfer_bytes > 0 && bandwidth > 0) {
    message += ", and " + format_bytes(with_it->transfer_bytes) + " are moved, about " +
               format_seconds(static_cast<double>(with_it->transfer_bytes) / bandwidth) + " a step";
  }
  return {hit_in_block(subject, key, std::move(message),
                       "Turn it off; tidemark explain tells what would lower the peak.")};
}

Hits cpu_does_not_lower_peak(const LintSubject& subject) {
  if (!keys_of(subject).cpu_checkpointing) return {};
  return does_not_lower_peak(subject, "cpu_checkpointing", [](Setting& setting) {
    setting.cpu_checkpointing = CpuCheckpointing::off;
  });
}

Hits partition_does_not_lower_peak(const LintSubject& subject) {
  const bool can_save = subject.model_parallel_size.value_or(1) > 1;
  if (!keys_of(subject).partition_activations || !can_save) return {};
  return does_not_lower_peak(subject, "partition_activations", [](Setting& setting) {
    setting.partition_activations = false;
    setting.contiguous_memory_optimization = false;
  });
}

Hits larger_segments_raise_peak(const LintSubject& subject) {
  const auto& number = keys_of(subject).number_checkpoints;
  const auto setting = setting_on_step(subject);
  if (!setting || !number || *number < 1) return {};
  const std::int32_t blocks = count_blocks(*subject.step);
  if (*setting->number_checkpoints >= blocks) return {};
  Setting single = *setting;
  single.number_checkpoints = blocks;
  const auto grouped = figures(subject, *setting);
  const auto ungrouped = figures(subject, single);
  if (!grouped || !ungrouped || grouped->live_peak_bytes <= ungrouped->live_peak_bytes) return {};
  return {hit_in_block(subject, "number_checkpoints",
                       "grouping this step's " + std::to_string(blocks) + " blocks into " +
                           std::to_string(*setting->number_checkpoints) + " checkpoints needs " +
                           format_bytes(grouped->live_peak_bytes) + ", one checkpoint a block " +
                           format_bytes(ungrouped->live_peak_bytes) +
                           ": a larger segment recomputes more at once than it saves",
                       "Checkpoint single blocks; the time is the same.")};
}

// Buffers in the file for fewer checkpoints than the step has blocks: right only for groups.
Hits contiguous_grouping(const LintSubject& subject) {
  const ActivationCheckpointing& keys = keys_of(subject);
  if (!setting_on_step(subject) || subject.checkpoints) return {};
  if (!keys.contiguous_memory_optimization || !keys.number_checkpoints) return {};
  const std::int64_t blocks = count_blocks(*subject.step);
  const std::int64_t number = *keys.number_checkpoints;
  if (number < 1 || number == blocks) return {};
  if (number > blocks) {
    return {hit_in_block(subject, "number_checkpoints",
                         "this step has " + std::to_string(blocks) +
                             " blocks, so buffers for at "
                             "least " +
                             std::to_string(number - blocks) + " checkpoints stay unused",
                         "Set it to the number of checkpoints, at most " + std::to_string(blocks) +
                             " for each forward before a backward.")};
  }
  const std::int64_t group = (blocks + number - 1) / number;
  return {hit_in_block(
      subject, "number_checkpoints",
      "this step has " + std::to_string(blocks) +
          " blocks: with one checkpoint a block DeepSpeed fails with IndexError: list index out of "
          "range",
      "Checkpoint at least " + std::to_string(group) + " blocks together.")};
}

}  // namespace

std::span<const LintRule> step_rules() {
  static constexpr std::array<LintRule, 7> rules{{
      {"partition-not-divisible", Severity::error,
       "every partitioned input's element count must divide by the model-parallel size",
       "deepspeedai/DeepSpeed#1538", partition_not_divisible},
      {"input-read-again", Severity::error,
       "partitioning and offload empty a checkpoint's inputs, so another reader finds nothing",
       "huggingface/accelerate#2792", input_read_again},
      {"contiguous-sizes-differ", Severity::error,
       "contiguous buffers have the first checkpoint's size", "deepspeedai/DeepSpeed#1375",
       contiguous_sizes_differ},
      {"contiguous-grouping", Severity::note,
       "the number of contiguous buffers must match how the training code groups its layers",
       "deepspeedai/DeepSpeed#3005", contiguous_grouping},
      {"cpu-does-not-lower-peak", Severity::warning,
       "offload lowers the peak only where held checkpoints set it", "huggingface/accelerate#4175",
       cpu_does_not_lower_peak},
      {"partition-does-not-lower-peak", Severity::warning,
       "partitioning lowers the peak only where held checkpoints set it",
       "deepspeedai/DeepSpeed#3779", partition_does_not_lower_peak},
      {"larger-segments-raise-peak", Severity::warning,
       "fewer, larger segments can need more memory", "NVIDIA/Megatron-LM#1226",
       larger_segments_raise_peak},
  }};
  return rules;
}

}  // namespace tidemark
