#include "allocator_replay.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "step_analysis.hpp"
#include "tidemark/record_stream.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

// Whether copies on queues of their own use streams as DeepSpeed's do: what they make comes from
// the copying stream's segments, and what they touch is given back when the copy is known to be
// done. The library's workspace then comes where it does there, with the first product that is
// recomputed, and stays.
enum class CopyStreams : std::uint8_t { none, drained, backlogged };

class Replay {
 public:
  Replay(const StepTrace& trace, const Schedule& schedule, const SimulateOptions& options,
         CopyStreams streams = CopyStreams::none)
      : trace_(trace),
        schedule_(schedule),
        allocator_(options.allocator, options.device),
        blocks_(schedule.instances.size()),
        streams_(streams),
        is_copied_(schedule.instances.size(), false),
        is_fetched_(schedule.instances.size(), false) {
    if (streams != CopyStreams::none) find_copied();
  }

  AllocatorLevels run() {
    const auto statics = static_cast<std::size_t>(schedule_.initial_instances);
    for (std::size_t i = 0; i < statics && !levels_.out_of_memory; ++i) {
      create(make_id<InstanceId>(i), "the static storages");
    }
    for (std::size_t s = 0; s < schedule_.steps.size() && !levels_.out_of_memory; ++s) perform(s);
    levels_.first_reserved_peak = allocator_.figures().reserved_bytes.peak;
    levels_.reserved_peak = levels_.first_reserved_peak;
    levels_.allocated_peak = allocator_.figures().allocated_bytes.peak;
    if (levels_.out_of_memory) return std::move(levels_);
    for (std::size_t i = statics; i < blocks_.size(); ++i) {
      if (make_id<InstanceId>(i) != workspace_) release(blocks_[i]);
    }
    release_lagging();
    run_steady_step();
    return std::move(levels_);
  }

 private:
  using Held = std::optional<BlockId>;

  void find_copied() {
    for (const Step& step : schedule_.steps) {
      const auto* made = std::get_if<Allocate>(&step.action);
      if (made != nullptr && step.cause == Cause::recompute) workspace_ = made->instance;
      const auto* copy = std::get_if<Copy>(&step.action);
      if (copy == nullptr || copy->queue == Queue::compute) continue;
      is_copied_[index(copy->from)] = true;
      is_copied_[index(copy->to)] = true;
      is_fetched_[index(copy->to)] = true;
    }
  }

  void release_lagging() {
    for (Held& held : lagging_) release(held);
    lagging_.clear();
  }

  void run_steady_step() {
    allocator_.reset_peaks();
    levels_.allocated_peak = allocator_.figures().allocated_bytes.peak;
    levels_.reserved_peak = allocator_.figures().reserved_bytes.peak;
    levels_.allocated.reserve(schedule_.steps.size());
    levels_.reserved.reserve(schedule_.steps.size());
    for (std::size_t s = 0; s < schedule_.steps.size() && !levels_.out_of_memory; ++s) {
      allocator_.reset_peaks();
      perform(s);
      levels_.allocated.push_back(allocator_.figures().allocated_bytes.peak);
      levels_.reserved.push_back(allocator_.figures().reserved_bytes.peak);
      levels_.allocated_peak = std::max(levels_.allocated_peak, levels_.allocated.back());
      levels_.reserved_peak = std::max(levels_.reserved_peak, levels_.reserved.back());
    }
    if (!levels_.out_of_memory) return;
    levels_.allocated.clear();
    levels_.reserved.clear();
  }

  void perform(std::size_t step) {
    const auto& action = schedule_.steps[step].action;
    if (const auto* run = std::get_if<Run>(&action)) {
      perform_run(*run);
      if (schedule_.steps[step].cause == Cause::recompute) take_workspace(*run);
    } else if (const auto* allocate = std::get_if<Allocate>(&action)) {
      if (allocate->instance == workspace_) return;
      create(allocate->instance, "an allocation of the schedule");
    } else if (const auto* freed = std::get_if<Free>(&action)) {
      if (freed->instance != workspace_) give_up(freed->instance);
    }
  }

  void take_workspace(const Run& run) {
    if (workspace_ == unnamed_instance || blocks_[index(workspace_)]) return;
    if (!multiplies_with_bias(trace_.ops[index(run.op)])) return;
    create(workspace_, "the library's workspace");
  }

  void give_up(InstanceId id) {
    Held& held = blocks_[index(id)];
    if (streams_ != CopyStreams::backlogged || !is_copied_[index(id)]) return release(held);
    lagging_.push_back(held);
    held.reset();
  }

  // The operator's own allocations, in its own order. Created storages that the schedule does not
  // name die at its end.
  void perform_run(const Run& run) {
    const Op& op = trace_.ops[index(run.op)];
    made_.assign(op.creates.size(), std::nullopt);
    temporaries_.clear();
    for (const AllocationEvent& event : *form_of(op, run.gradients).allocations) {
      Held& held = held_by(event, op);
      release(held);
      if (!event.is_free) held = take(event.bytes, op.name);
      if (levels_.out_of_memory) return;
    }
    for (Held& held : temporaries_) release(held);
    for (std::size_t c = 0; c < made_.size(); ++c) {
      if (run.creates[c] == unnamed_instance) {
        release(made_[c]);
      } else {
        blocks_[index(run.creates[c])] = made_[c];
      }
    }
  }

  Held& held_by(const AllocationEvent& event, const Op& op) {
    if (event.storage != no_storage) {
      const auto created = std::find(op.creates.begin(), op.creates.end(), event.storage);
      return made_[static_cast<std::size_t>(created - op.creates.begin())];
    }
    const auto temporary = static_cast<std::size_t>(event.temporary);
    if (temporaries_.size() <= temporary) temporaries_.resize(temporary + 1);
    return temporaries_[temporary];
  }

  void create(InstanceId id, const std::string& what) {
    const Instance& instance = schedule_.instances[index(id)];
    if (instance.place != Place::device) return;
    if (instance.storage != no_storage && !is_on_device(trace_, instance.storage)) return;
    blocks_[index(id)] = take(instance.bytes, what, is_fetched_[index(id)] ? 1 : 0);
  }

  // No bytes are no block, as in PyTorch.
  Held take(Bytes bytes, const std::string& what, std::int32_t stream = 0) {
    if (bytes == 0) return std::nullopt;
    const Held block = allocator_.allocate(bytes, stream);
    if (!block) {
      levels_.out_of_memory = "predicted to run out of memory: " + what + " asks for " +
                              format_bytes(bytes) + " where " +
                              format_bytes(std::max(Bytes{0}, allocator_.device_free_bytes())) +
                              " are free on the device";
    }
    return block;
  }

  void release(Held& held) {
    if (held) allocator_.free(*held);
    held.reset();
  }

  const StepTrace& trace_;
  const Schedule& schedule_;
  CachingAllocator allocator_;
  std::vector<Held> blocks_;  // by instance
  CopyStreams streams_;
  std::vector<bool> is_copied_;   // by instance: on a queue of its own
  std::vector<bool> is_fetched_;  // by instance: the target of such a copy
  std::vector<Held> lagging_;     // given up while their copies lag
  InstanceId workspace_ = unnamed_instance;
  // Of the running operator.
  std::vector<Held> made_;
  std::vector<Held> temporaries_;
  AllocatorLevels levels_;
};

bool can_replay(const StepTrace& trace, const SimulateOptions& options) {
  return is_gpu(trace.device.kind) && options.allocator.is_native &&
         std::all_of(trace.ops.begin(), trace.ops.end(), [](const Op& op) {
           return op.allocations && (!op.no_grad || op.no_grad->allocations);
         });
}

}  // namespace

std::optional<AllocatorLevels> replay_allocator(const StepTrace& trace, const Schedule& schedule,
                                                const SimulateOptions& options) {
  if (!can_replay(trace, options)) return std::nullopt;
  return Replay(trace, schedule, options).run();
}

std::optional<LaggingCopies> lagging_copies(const StepTrace& trace, const Schedule& schedule,
                                            const SimulateOptions& options) {
  const bool copies_aside =
      std::any_of(schedule.steps.begin(), schedule.steps.end(), [](const Step& step) {
        const auto* copy = std::get_if<Copy>(&step.action);
        return copy != nullptr && copy->queue != Queue::compute;
      });
  if (!copies_aside || !can_replay(trace, options)) return std::nullopt;
  const AllocatorLevels drained = Replay(trace, schedule, options, CopyStreams::drained).run();
  const AllocatorLevels lagging = Replay(trace, schedule, options, CopyStreams::backlogged).run();
  if (drained.out_of_memory || lagging.out_of_memory) return std::nullopt;
  const auto peaks = [](const AllocatorLevels& levels) {
    return LagPeaks{.in_use = levels.allocated_peak, .reserved = levels.reserved_peak};
  };
  return LaggingCopies{.drained = peaks(drained), .backlogged = peaks(lagging)};
}

std::optional<Bytes> replay_pinned_pool(const StepTrace& trace, const Schedule& schedule) {
  if (!is_gpu(trace.device.kind)) return std::nullopt;
  PinnedPool pool;
  const auto pinned_bytes = [&](InstanceId id) {
    const Instance& instance = schedule.instances[index(id)];
    return instance.place == Place::host_pinned ? instance.bytes : Bytes{0};
  };
  for (const Step& step : schedule.steps) {
    if (const auto* made = std::get_if<Allocate>(&step.action)) {
      pool.allocate(pinned_bytes(made->instance));
    } else if (const auto* freed = std::get_if<Free>(&step.action)) {
      pool.free(pinned_bytes(freed->instance));
    }
  }
  return pool.reserved_bytes();
}

}  // namespace tidemark
