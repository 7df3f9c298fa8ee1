// The targets, for their registry alone: the world reaches them through targets().
#pragma once

#include "tidemark/export.hpp"

namespace tidemark {

[[nodiscard]] const Target& accelerate_target();
[[nodiscard]] const Target& deepspeed_target();
[[nodiscard]] const Target& deepspeed_pipeline_target();
[[nodiscard]] const Target& hf_target();
[[nodiscard]] const Target& lightning_target();
[[nodiscard]] const Target& megatron_deepspeed_target();
[[nodiscard]] const Target& megatron_lm_target();
[[nodiscard]] const Target& torch_target();
[[nodiscard]] const Target& torchtitan_target();

}  // namespace tidemark
