// What the training loop's framework makes of the block. The first rule is the trap that most
// people fall into.
#include <array>

#include "rules.hpp"

namespace tidemark {

namespace {

using Hits = std::vector<LintHit>;

Hits inert(const LintSubject& subject) {
  const bool applies_itself = subject.target == LintTarget::deepspeed;
  if (block_keys_of(subject) == nullptr || !applies_itself) return {};
  return {hit_in_block(
      subject, "",
      "the block does nothing unless the training code calls deepspeed.checkpointing.configure() "
      "and deepspeed.checkpointing.checkpoint(); deepspeed.initialize() alone, Hugging Face "
      "Trainer and Accelerate never do",
      "Check that your training code calls both, or use the framework's own checkpointing.")};
}

Hits inert_in_framework(const LintSubject& subject) {
  const bool is_hf = subject.target == LintTarget::hf;
  if (block_keys_of(subject) == nullptr || (!is_hf && subject.target != LintTarget::accelerate)) {
    return {};
  }
  return {hit_in_block(
      subject, "",
      is_hf ? "Hugging Face Trainer hands the file to deepspeed.initialize(), which parses the "
              "block and never applies it: it changes nothing"
            : "Accelerate hands the file to deepspeed.initialize(), which parses the block and "
              "never applies it: it changes nothing",
      is_hf ? "Set gradient_checkpointing=True in TrainingArguments; tidemark export --to hf "
              "writes it."
            : "Turn on the model's own checkpointing, or FSDP's fsdp_activation_checkpointing; "
              "tidemark export --to accelerate writes it.")};
}

Hits inert_in_lightning(const LintSubject& subject) {
  if (block_keys_of(subject) == nullptr || subject.target != LintTarget::lightning) return {};
  return {hit_in_block(
      subject, "",
      "Lightning's DeepSpeedStrategy calls configure() with this block, and still nothing happens "
      "unless the LightningModule calls deepspeed.checkpointing.checkpoint()",
      "Call deepspeed.checkpointing.checkpoint(block, x) around each group of layers.")};
}

Hits lightning_drops_number(const LintSubject& subject) {
  if (subject.target != LintTarget::lightning) return {};
  Hits hits;
  if (keys_of(subject).contiguous_memory_optimization) {
    hits.push_back(hit_in_block(
        subject, "contiguous_memory_optimization",
        "Lightning never passes number_checkpoints to configure(), so contiguous checkpointing "
        "fails whatever the number says",
        "Turn it off, or call deepspeed.checkpointing.configure() yourself after the strategy."));
  }
  return hits;
}

Hits lightning_has_no_mpu(const LintSubject& subject) {
  if (subject.target != LintTarget::lightning || !keys_of(subject).partition_activations) return {};
  return {hit_in_block(subject, "partition_activations",
                       "Lightning calls configure() without an mpu, so checkpoints are divided by "
                       "1: nothing is saved and each is copied once",
                       "Turn it off.")};
}

Hits megatron_flags_win(const LintSubject& subject) {
  if (block_keys_of(subject) == nullptr || subject.target != LintTarget::megatron_deepspeed) {
    return {};
  }
  return {hit_in_block(
      subject, "",
      "Megatron-DeepSpeed passes its command line's flags to configure(), and a flag that is not "
      "given counts as false: the block's values are overwritten",
      "Give --deepspeed-activation-checkpointing --checkpoint-activations and the flags; tidemark "
      "export --to megatron-deepspeed writes them.")};
}

// Hugging Face checkpoints single layers; a smaller number of checkpoints than layers has no
// counterpart there.
Hits hf_has_no_groups(const LintSubject& subject) {
  const auto& number = keys_of(subject).number_checkpoints;
  if (subject.target != LintTarget::hf || !number || subject.step == nullptr) return {};
  std::size_t blocks = 0;
  for (const BlockRun& run : subject.step->runs) blocks += run.blocks.size();
  if (*number < 1 || static_cast<std::size_t>(*number) >= blocks) return {};
  return {hit_in_block(
      subject, "number_checkpoints",
      "Hugging Face checkpoints single layers and cannot group " + std::to_string(blocks) +
          " of them into " + std::to_string(*number) +
          "; its every_n_layers leaves layers without a checkpoint, which is the opposite",
      "Use gradient_checkpointing=True (one checkpoint a layer), or tidemark.apply() in your "
      "code.")};
}

}  // namespace

std::span<const LintRule> framework_rules() {
  static constexpr std::array<LintRule, 7> rules{{
      {"inert", Severity::note,
       "the block does nothing unless the training code calls DeepSpeed's checkpointing",
       "deepspeedai/DeepSpeed#5704", inert},
      {"inert-in-framework", Severity::warning,
       "Hugging Face Trainer and Accelerate never apply the block",
       "huggingface/transformers#32409", inert_in_framework},
      {"inert-in-lightning", Severity::note,
       "Lightning configures DeepSpeed's checkpointing and leaves calling it to the module",
       "Lightning-AI/pytorch-lightning#18732", inert_in_lightning},
      {"lightning-drops-number", Severity::error,
       "Lightning never passes number_checkpoints, so contiguous buffers cannot work",
       "Lightning-AI/pytorch-lightning#20329", lightning_drops_number},
      {"lightning-has-no-mpu", Severity::warning,
       "Lightning passes no mpu, so partition_activations saves nothing",
       "Lightning-AI/pytorch-lightning#18732", lightning_has_no_mpu},
      {"megatron-flags-win", Severity::warning,
       "Megatron-DeepSpeed's flags always override the block", "deepspeedai/Megatron-DeepSpeed#452",
       megatron_flags_win},
      {"hf-has-no-groups", Severity::warning,
       "Hugging Face cannot recompute several layers together", "huggingface/transformers#26103",
       hf_has_no_groups},
  }};
  return rules;
}

}  // namespace tidemark
