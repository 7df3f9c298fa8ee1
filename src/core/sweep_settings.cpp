#include <algorithm>
#include <string>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark {

namespace {

void fill_segments(Setting& setting, const std::vector<BlockRun>& runs) {
  setting.segments.clear();
  if (!setting.number_checkpoints) return;
  for (Segment& segment : make_segments(runs, *setting.number_checkpoints, setting.uneven)) {
    setting.segments.push_back(std::move(segment.blocks));
  }
}

// Whether DeepSpeed has this form of offload at all.
bool exists(const Setting& setting) {
  if (setting.cpu_checkpointing != CpuCheckpointing::async) return true;
  return !setting.partition_activations && setting.deepspeed_version >= first_async_version;
}

void expand_allocators(const SweepAxes& axes, Setting setting, std::vector<Setting>& settings) {
  for (const std::string& conf : axes.alloc_confs) {
    setting.alloc_conf = conf;
    settings.push_back(setting);
  }
}

// The combinations of one count and one method.
void expand_storage(const SweepAxes& axes, Setting setting, std::vector<Setting>& settings) {
  for (const bool partition : axes.partition_activations) {
    setting.partition_activations = partition;
    for (const CpuCheckpointing cpu : axes.cpu_checkpointing) {
      setting.cpu_checkpointing = cpu;
      const bool is_only_form = axes.cpu_checkpointing.size() == 1;
      if (!exists(setting) && !is_only_form) continue;
      for (const bool contiguous : axes.contiguous_memory_optimization) {
        setting.contiguous_memory_optimization = contiguous;
        expand_allocators(axes, setting, settings);
      }
    }
  }
}

}  // namespace

std::vector<Setting> expand(const SweepAxes& axes, const std::vector<BlockRun>& runs) {
  std::vector<std::optional<std::int32_t>> counts;
  if (axes.number_checkpoints) {
    counts = *axes.number_checkpoints;
  } else {
    counts.emplace_back(std::nullopt);
    for (const std::int32_t k : distinct_checkpoint_counts(runs)) counts.emplace_back(k);
  }
  Setting base;
  base.deepspeed_version = axes.deepspeed_version;
  base.model_parallel_size = axes.model_parallel_size;
  base.uneven = axes.uneven;
  base.method = axes.methods.front();
  std::vector<Setting> settings;
  const bool has_plain = std::find(counts.begin(), counts.end(), std::nullopt) != counts.end();
  if (has_plain) expand_allocators(axes, base, settings);
  for (const Method method : axes.methods) {
    for (const std::optional<std::int32_t>& k : counts) {
      if (!k) continue;
      Setting setting = base;
      setting.method = method;
      setting.number_checkpoints = *k;
      fill_segments(setting, runs);
      expand_storage(axes, setting, settings);
    }
  }
  return settings;
}

void fix_axes(SweepAxes& axes, const std::vector<std::string>& keys,
              const ActivationCheckpointing& block) {
  for (const std::string& key : keys) {
    if (key == "number_checkpoints") {
      std::optional<std::int32_t> k;
      if (block.number_checkpoints) k = static_cast<std::int32_t>(*block.number_checkpoints);
      axes.number_checkpoints = {k};
    } else if (key == "partition_activations") {
      axes.partition_activations = {block.partition_activations};
    } else if (key == "cpu_checkpointing") {
      if (!block.cpu_checkpointing) {
        axes.cpu_checkpointing = {CpuCheckpointing::off};
      } else {
        axes.cpu_checkpointing = {CpuCheckpointing::blocking, CpuCheckpointing::async};
      }
    } else if (key == "contiguous_memory_optimization") {
      axes.contiguous_memory_optimization = {block.contiguous_memory_optimization};
    } else if (key != "synchronize_checkpoint_boundary" && key != "profile") {
      throw UsageError("--fix does not know '" + key +
                       "'; it takes the keys of the activation_checkpointing block");
    }
  }
}

OwnSetting own_setting(const ActivationCheckpointing& block, const SweepAxes& axes,
                       const std::vector<BlockRun>& runs) {
  OwnSetting own{.setting = setting_of(block, axes.model_parallel_size, axes.methods.front(),
                                       axes.deepspeed_version),
                 .assumed = {}};
  own.setting.uneven = axes.uneven;
  own.setting.alloc_conf = axes.alloc_confs.front();
  const bool uses_checkpoints = block.partition_activations || block.cpu_checkpointing;
  const bool is_refused_anyway = block.contiguous_memory_optimization;
  if (!own.setting.number_checkpoints && uses_checkpoints && !is_refused_anyway && !runs.empty()) {
    own.setting.number_checkpoints = static_cast<std::int32_t>(count_blocks(runs));
    own.assumed =
        "your configuration leaves number_checkpoints to the training code; one block a checkpoint "
        "is assumed";
  }
  fill_segments(own.setting, runs);
  return own;
}

}  // namespace tidemark
