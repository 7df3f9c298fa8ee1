// Between the configuration's block and a setting.
#include <algorithm>

#include "tidemark/config.hpp"

namespace tidemark {

Setting setting_of(const ActivationCheckpointing& block, std::int32_t model_parallel_size,
                   Method method, const DeepSpeedVersion& version) {
  Setting setting;
  if (block.number_checkpoints) {
    setting.number_checkpoints = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(*block.number_checkpoints, -1, 1'000'000));
  }
  setting.partition_activations = block.partition_activations;
  setting.model_parallel_size = model_parallel_size;
  setting.contiguous_memory_optimization = block.contiguous_memory_optimization;
  setting.synchronize_checkpoint_boundary = block.synchronize_checkpoint_boundary;
  setting.profile = block.profile;
  setting.method = method;
  setting.deepspeed_version = version;
  constexpr DeepSpeedVersion first_async{.major = 0, .minor = 19, .patch = 6};
  const bool is_async = version >= first_async && !block.partition_activations;
  if (block.cpu_checkpointing) {
    setting.cpu_checkpointing = is_async ? CpuCheckpointing::async : CpuCheckpointing::blocking;
  }
  return setting;
}

ActivationCheckpointing block_of(const Setting& setting, const ActivationCheckpointing& base) {
  ActivationCheckpointing block = base;
  block.partition_activations = setting.partition_activations;
  block.contiguous_memory_optimization = setting.contiguous_memory_optimization;
  block.cpu_checkpointing = setting.cpu_checkpointing != CpuCheckpointing::off;
  block.number_checkpoints.reset();
  if (setting.number_checkpoints) block.number_checkpoints = *setting.number_checkpoints;
  return block;
}

}  // namespace tidemark
