// Setting: what a user can write down. build_schedule() lowers it to the six kinds of step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

enum class CpuCheckpointing : std::uint8_t { off, blocking, async };
// PyTorch's two checkpoint implementations; DeepSpeed's checkpoint() is the reentrant one.
enum class Method : std::uint8_t { reentrant, non_reentrant };

[[nodiscard]] std::string_view name(CpuCheckpointing value);  // "off", "blocking", "async"
[[nodiscard]] std::string_view name(Method value);            // "reentrant", "non_reentrant"

struct DeepSpeedVersion {
  std::int32_t major = 0;
  std::int32_t minor = 0;
  std::int32_t patch = 0;
  auto operator<=>(const DeepSpeedVersion&) const = default;
};
// The first whose cpu_checkpointing is asynchronous (without partitioning).
inline constexpr DeepSpeedVersion first_async_version{.major = 0, .minor = 19, .patch = 6};
[[nodiscard]] std::string to_string(const DeepSpeedVersion& version);
// "0.19.8" (what follows a further dot or letter is ignored); nullopt: no version.
[[nodiscard]] std::optional<DeepSpeedVersion> deepspeed_version_from_text(std::string_view text);

struct Setting {
  std::optional<std::int32_t> number_checkpoints;  // absent: no checkpointing
  bool uneven = false;  // segments whose sizes differ by at most one, instead of ceil(B/K)
  bool partition_activations = false;
  std::int32_t model_parallel_size = 1;
  CpuCheckpointing cpu_checkpointing = CpuCheckpointing::off;
  bool contiguous_memory_optimization = false;
  bool synchronize_checkpoint_boundary = false;
  bool profile = false;
  Method method = Method::reentrant;
  DeepSpeedVersion deepspeed_version{.major = 0, .minor = 19, .patch = 8};
  // PYTORCH_ALLOC_CONF's value; empty: torch's defaults. Changes allocated and reserved bytes only.
  std::string alloc_conf;
  // Names of the blocks in each segment; derived from the above by make_segments().
  std::vector<std::vector<std::string>> segments;

  bool operator==(const Setting&) const = default;
};

// A repeated module of the model, as a range of forward operators [first, last].
struct Block {
  std::string name;  // module path, or "ops 12-40" where the graph's cut points had to serve
  OpId first{};
  OpId last{};
  bool operator==(const Block&) const = default;
};

// Blocks that follow each other; no segment crosses runs (encoder and decoder are two).
struct BlockRun {
  std::vector<Block> blocks;
  bool operator==(const BlockRun&) const = default;
};

// The blocks of all runs.
[[nodiscard]] std::size_t count_blocks(const std::vector<BlockRun>& runs);

// The deepest families of at least two same-class sibling modules that have submodules and where
// each consumes its predecessor's output. `glob` (as a shell's: * does not cross a dot, ** does)
// names the modules instead. Without module paths, the graph's cut points: positions in forward
// over which a single activation is carried.
[[nodiscard]] std::vector<BlockRun> find_blocks(const StepTrace& trace,
                                                const std::optional<std::string>& glob = {});

// Consecutive blocks whose inside is recomputed together.
struct Segment {
  std::vector<std::string> blocks;
  OpId first{};
  OpId last{};
  bool operator==(const Segment&) const = default;
};

// K divided over the runs in proportion to their blocks, at least one each; inside a run of B
// blocks segments of ceil(B/k), the last one shorter (as Megatron's and DeepSpeed's intervals), or
// uneven. May give fewer than K segments.
[[nodiscard]] std::vector<Segment> make_segments(const std::vector<BlockRun>& runs, std::int32_t k,
                                                 bool uneven = false);

// Every K from 1 to the number of blocks that gives a grouping no smaller K gives.
[[nodiscard]] std::vector<std::int32_t> distinct_checkpoint_counts(
    const std::vector<BlockRun>& runs);

// The storages made outside a segment and read inside, less parameters and buffers, in the order
// of their first read: its checkpoint.
[[nodiscard]] std::vector<StorageId> segment_inputs(const StepTrace& trace, const Segment& segment);

// A setting that the framework itself refuses, with its own reason.
struct InvalidSetting {
  std::string reason;
  bool operator==(const InvalidSetting&) const = default;
};

struct BuiltSchedule {
  Schedule schedule;
  std::vector<Segment> segments;
  std::vector<std::string> notes;  // what was assumed, emulated or runs twice
  bool operator==(const BuiltSchedule&) const = default;
};

struct BuildOptions {
  bool hold_outputs = false;  // keep all outputs to the end, as a caller who holds them does
  // Operators of segments whose results are kept instead of made again: PyTorch's selective
  // checkpointing. Non-reentrant settings only.
  std::vector<OpId> kept;
};

// Lowers a setting onto a recorded step. Pure; cost linear in the trace times the segments.
// Throws InternalError never for a checked trace; a setting that cannot run is a value.
[[nodiscard]] std::variant<BuiltSchedule, InvalidSetting> build_schedule(
    const StepTrace& trace, const std::vector<BlockRun>& runs, const Setting& setting,
    const BuildOptions& options = {});

// The recorded step as it ran, without checkpoints: what every plan and setting is compared with.
[[nodiscard]] Schedule plain_schedule(const StepTrace& trace, const BuildOptions& options = {});

}  // namespace tidemark
