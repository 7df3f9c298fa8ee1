// Every export target, one line each.
#include "targets.hpp"

#include <array>
#include <span>

namespace tidemark {

std::span<const Target* const> targets() {
  static const std::array<const Target*, 9> all{
      &deepspeed_target(),
      &deepspeed_pipeline_target(),
      &megatron_deepspeed_target(),
      &megatron_lm_target(),
      &hf_target(),
      &accelerate_target(),
      &torchtitan_target(),
      &torch_target(),
      &lightning_target(),
  };
  return all;
}

}  // namespace tidemark
