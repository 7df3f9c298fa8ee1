// The axes of a sweep and the settings they span.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/config.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

struct SweepAxes {
  // Absent entry: no checkpointing. Absent list: none, and every count that gives a new grouping.
  std::optional<std::vector<std::optional<std::int32_t>>> number_checkpoints;
  std::vector<bool> partition_activations{false, true};
  std::vector<CpuCheckpointing> cpu_checkpointing{CpuCheckpointing::off, CpuCheckpointing::blocking,
                                                  CpuCheckpointing::async};
  std::vector<bool> contiguous_memory_optimization{false, true};
  std::vector<Method> methods{Method::reentrant};
  std::int32_t model_parallel_size = 1;
  DeepSpeedVersion deepspeed_version{.major = 0, .minor = 19, .patch = 8};
  bool uneven = false;
  std::vector<std::string> alloc_confs{""};  // values of PYTORCH_ALLOC_CONF

  bool operator==(const SweepAxes&) const = default;
};

// Every combination, each once and with its segments, in a fixed order: no checkpointing first,
// then by method, count, partitioning, offload, contiguous buffers, allocator settings. Offload in
// a form that the DeepSpeed version does not have is left out where another value of that axis
// remains.
[[nodiscard]] std::vector<Setting> expand(const SweepAxes& axes, const std::vector<BlockRun>& runs);

// Keys of the block that --fix may name. Pins the axes to the config's values. Throws UsageError
// for an unknown key.
void fix_axes(SweepAxes& axes, const std::vector<std::string>& keys,
              const ActivationCheckpointing& block);

// The config's own setting on these blocks. Where number_checkpoints is null but another key is on,
// the training code decides; one block a checkpoint is taken then (`assumed` says so).
struct OwnSetting {
  Setting setting;
  std::optional<std::string> assumed;
};
[[nodiscard]] OwnSetting own_setting(const ActivationCheckpointing& block, const SweepAxes& axes,
                                     const std::vector<BlockRun>& runs);

}  // namespace tidemark
