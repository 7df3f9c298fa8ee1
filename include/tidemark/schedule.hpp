// Schedule: one total order of six kinds of step. The only thing that is validated, simulated and
// executed; every framework's option and every planner is lowered to it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tidemark/trace.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// Where bytes lie. `peer` is another rank's device, emulated in this process: counted in no peak.
enum class Place : std::uint8_t { device, host_pinned, host_pageable, peer };

// Work on one queue runs in order; different queues run side by side until a Wait.
enum class Queue : std::uint8_t { compute, offload, fetch };
inline constexpr std::size_t queue_count = 3;

// Why a step stands in the schedule; for reports only, no rule depends on it.
enum class Cause : std::uint8_t {
  recorded,         // as in the recorded step
  recompute,        // an operator run again, and what it needs
  offload,          // device to host
  fetch,            // host to device
  partition,        // a checkpoint cut to this rank's slice
  gather,           // the slices put together again
  contiguous_pool,  // DeepSpeed's contiguous checkpoint buffers
  generator_state,  // the framework's saved generator states
  restore_state,    // state that feeds values, put back for a recomputation
};

// What an instance is at the peak. The terms of a breakdown sum to the peak; `workspace` is the
// scratch of the running operator and belongs to no instance.
enum class Term : std::uint8_t {
  static_memory,
  held_checkpoints,
  checkpoint_pools,
  generator_states,
  activations,           // made inside a block by its first run
  recomputed_segment,    // made inside a block by its recomputation
  outside_blocks,        // embedding, head, loss
  activation_gradients,  // made in backward, not a parameter's gradient
  gradients,             // parameters' gradients born in this step
  optimizer_step,
  restored_state,
  workspace,
};
inline constexpr std::size_t term_count = 12;

// "static", "held checkpoints", ... as reports print them; and their keys in files
// ("held_checkpoints").
[[nodiscard]] std::string_view title(Term term);
[[nodiscard]] std::string_view key(Term term);
[[nodiscard]] std::string_view key(Cause cause);
[[nodiscard]] std::string_view key(Place place);
[[nodiscard]] std::string_view key(Queue queue);

// The nth creation of a storage, by an operator, or by Allocate for a copy or a slice of it.
struct Instance {
  StorageId storage = no_storage;
  std::int32_t number = 0;
  Bytes bytes = 0;
  Place place = Place::device;
  Term term = Term::activations;

  bool operator==(const Instance&) const = default;
};

// Runs a recorded operator. `reads`, `writes` and `creates` are aligned with those of the Op: which
// instance stands for each storage. An unnamed created instance dies at the operator's end but
// counts while it runs, unless the operator's form omits it.
struct Run {
  OpId op{};
  std::vector<InstanceId> reads;
  std::vector<InstanceId> writes;
  std::vector<InstanceId> creates;
  Gradients gradients = Gradients::on;  // off: in the form of Op::no_grad
  bool operator==(const Run&) const = default;
};

// Makes an instance in its place, with its bytes; the values are undefined until a Copy.
struct Allocate {
  InstanceId instance{};
  bool operator==(const Allocate&) const = default;
};

// Copies `bytes` from one instance into another. The version travels with a copy of the whole.
struct Copy {
  InstanceId from{};
  InstanceId to{};
  Bytes from_offset = 0;
  Bytes to_offset = 0;
  Bytes bytes = 0;
  Queue queue = Queue::compute;
  bool operator==(const Copy&) const = default;
};

struct Free {
  InstanceId instance{};
  bool operator==(const Free&) const = default;
};

// `queue` goes on only after the step `event` (an earlier step of this schedule) is done.
struct Wait {
  Queue queue = Queue::compute;
  StepId event{};
  bool operator==(const Wait&) const = default;
};

enum class CollectiveKind : std::uint8_t { all_gather };

// all_gather: the inputs' bytes, one input per rank in rank order, one after the other, into
// `output`. Runs on the compute queue.
struct Collective {
  CollectiveKind kind = CollectiveKind::all_gather;
  std::int32_t group = 0;
  std::vector<InstanceId> inputs;
  InstanceId output{};
  bool operator==(const Collective&) const = default;
};

struct Step {
  std::variant<Run, Allocate, Copy, Free, Wait, Collective> action;
  Cause cause = Cause::recorded;
  bool operator==(const Step&) const = default;
};

struct Schedule {
  // In order of creation. The first ones are the static storages' (place device), alive before
  // the first step and never freed; there are `initial_instances` of them.
  std::vector<Instance> instances;
  std::int32_t initial_instances = 0;
  std::vector<Step> steps;
  bool operator==(const Schedule&) const = default;
};

// A broken rule, found by validate().
struct Violation {
  std::size_t step = 0;  // == steps.size(): at the end of the schedule
  std::string message;   // one sentence that names operator, storage and instance
  bool operator==(const Violation&) const = default;
};

// The judge of every schedule: short, slow and obvious, and sharing no code with the simulator or
// any builder. Empty: the schedule computes what the recorded step computed. Rules: each recorded
// operator runs at least once and first runs keep the recorded order of operators that are random
// or write state; nothing reads, writes, copies or frees an instance that is not alive on the
// place it needs (operators: device); a read sees the version that the recorded step saw, where
// the version of an instance is the number of the storage's writers run on it (statistics are
// exempt); nothing is freed twice, static memory never; a copy that is not yet waited for is
// neither read on another queue nor freed; kept storages are alive in their final version at the
// end; bytes and ranges agree with the storages; an operator runs with gradients off only where it
// has that form, and what the form omits is not named.
[[nodiscard]] std::vector<Violation> validate(const StepTrace& trace, const Schedule& schedule);

}  // namespace tidemark
