// A DeepSpeed configuration file, as DeepSpeed reads it. What DeepSpeed would do with it: lint.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/hjson.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

// The activation_checkpointing block with DeepSpeed's defaults
// (deepspeed/runtime/activation_checkpointing/config.py).
struct ActivationCheckpointing {
  bool partition_activations = false;
  bool contiguous_memory_optimization = false;
  std::optional<std::int64_t> number_checkpoints;
  bool cpu_checkpointing = false;
  bool synchronize_checkpoint_boundary = false;
  bool profile = false;

  bool operator==(const ActivationCheckpointing&) const = default;
};

struct Config {
  std::string path;
  std::string text;  // the file, byte for byte
  HjsonObject root;
  ActivationCheckpointing activation_checkpointing;
};

// The block as it stands in the file; nullptr: the file has none.
[[nodiscard]] const HjsonMember* find_block(const Config& config);

// Python's truth: what DeepSpeed's "if flag:" makes of a value.
[[nodiscard]] bool is_truthy(const HjsonValue& value);

// Parses as DeepSpeed does (hjson: comments, trailing commas, unquoted keys; duplicate keys
// refused). `path` is for messages. Throws InputError with line and column where DeepSpeed's own
// reader would refuse the file.
[[nodiscard]] Config parse_config(const std::string& path, const std::string& text);

// The config's own setting, as a row of a sweep.
[[nodiscard]] Setting setting_of(const ActivationCheckpointing& block,
                                 std::int32_t model_parallel_size, Method method,
                                 const DeepSpeedVersion& version);

// The block that a setting means, keeping the config's synchronize and profile keys.
[[nodiscard]] ActivationCheckpointing block_of(const Setting& setting,
                                               const ActivationCheckpointing& base);

// The config's text, byte for byte, with only those keys of the block changed whose value differs;
// a missing key or block is inserted in the file's own style. Comments and order stay.
[[nodiscard]] std::string with_block(const Config& config, const ActivationCheckpointing& wanted);

// The config's text with the groups of blocks that the training code checkpoints under the
// top-level key "tidemark_segments", which DeepSpeed ignores; no groups: without the key's value
// changed.
[[nodiscard]] std::string with_segments(const Config& config,
                                        const std::vector<std::vector<std::string>>& segments);

}  // namespace tidemark
