// Lowers a setting onto a recorded step: the same operators in the recorded order, each segment
// run again before its backward.
//
//   recorded     f0 f1 f2 | f3 f4 f5 | head | b5 b4 b3 | b2 b1 b0
//   scheduled    f0 f1 f2 | f3 f4 f5 | head | f3 f4 f5 b5 b4 b3 | f0 f1 f2 b2 b1 b0
//
// Storages die where the recorded step really released them, mapped onto the recomputed instance
// (lifetimes.hpp).
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint_storage.hpp"
#include "lifetimes.hpp"
#include "schedule_writer.hpp"
#include "step_analysis.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

namespace {

// torch.get_rng_state() on the CPU: 5,056 bytes (at::CPUGeneratorImpl's legacy state, as a tensor).
constexpr Bytes cpu_generator_state_bytes = 5056;

class ScheduleBuilder {
 public:
  ScheduleBuilder(const StepTrace& trace, const Setting& setting, const BuildOptions& options,
                  const std::vector<BlockRun>& runs, std::vector<Segment> segments)
      : trace_(trace),
        setting_(setting),
        analysis_(trace, segments),
        writer_(trace),
        storage_(trace, analysis_, setting, writer_),
        lifetimes_(trace, analysis_, storage_, setting.method, options),
        current_(trace.storages.size(), unnamed_instance),
        recomputed_(trace.storages.size(), unnamed_instance),
        frees_after_(trace.ops.size()),
        is_in_block_(trace.ops.size(), 0),
        segments_(segments.size()),
        built_{.schedule = {}, .segments = std::move(segments), .notes = {}} {
    for (const BlockRun& run : runs) {
      for (std::size_t o = index(run.blocks.front().first); o <= index(run.blocks.back().last);
           ++o) {
        is_in_block_[o] = 1;
      }
    }
    for (std::size_t s = 0; s < trace.storages.size(); ++s) {
      current_[s] = writer_.static_instance(make_id<StorageId>(s));
    }
  }

  [[nodiscard]] std::variant<BuiltSchedule, InvalidSetting> build() {
    if (std::optional<std::string> reason = invalid_reason()) return InvalidSetting{*reason};
    const InstanceId workspace = allocate_recomputation_workspace();
    for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
      begin_segment(o);
      recompute_before(o);
      run_first(o);
      free_others_than_moved(o);
      end_segment(o);
      for (const InstanceId id : frees_after_[o]) writer_.free(id, Cause::recorded);
    }
    if (workspace != unnamed_instance) writer_.free(workspace, Cause::recompute);
    note_emulation();
    built_.notes.insert(built_.notes.end(), storage_.notes().begin(), storage_.notes().end());
    built_.schedule = writer_.take();
    return std::move(built_);
  }

 private:
  struct SegmentState {
    std::vector<InstanceId> inputs;  // as its backward reads them, once recomputed
    // State that feeds values, as it was before the segment's forward: (storage, copy).
    std::vector<std::pair<StorageId, InstanceId>> restored;
    InstanceId generator_state = unnamed_instance;
    bool is_recomputed = false;
  };

  [[nodiscard]] std::optional<std::string> invalid_reason() const;
  [[nodiscard]] std::optional<std::string> overwritten_input(const SegmentFacts& facts) const;
  [[nodiscard]] Term first_term(StorageId id, std::size_t op) const;
  [[nodiscard]] bool runs_without_gradients(std::size_t op) const;
  [[nodiscard]] InstanceId read_instance(StorageId id, std::size_t op) const;
  [[nodiscard]] std::vector<StorageId> state_written_in(const SegmentFacts& facts) const;
  [[nodiscard]] InstanceId allocate_recomputation_workspace();
  void begin_segment(std::size_t op);
  void free_others_than_moved(std::size_t op);
  void end_segment(std::size_t op);
  void save_state(std::size_t segment);
  void run_first(std::size_t op);
  void recompute_before(std::size_t op);
  void recompute(std::size_t segment, OpPosition at);
  void run_again(std::size_t segment, std::size_t op, OpPosition at,
                 std::vector<std::vector<InstanceId>>& local_frees);
  void hand_over(std::size_t segment, std::size_t op, OpPosition at,
                 std::vector<std::vector<InstanceId>>& local_frees);
  void let_go_of_unreached(std::size_t segment, OpPosition last);
  [[nodiscard]] InstanceId instance_for_rerun(std::size_t segment, StorageId id) const;
  void free_after(OpPosition position, InstanceId id);
  void note_emulation();

  const StepTrace& trace_;
  const Setting& setting_;
  StepAnalysis analysis_;
  ScheduleWriter writer_;
  CheckpointStorage storage_;
  Lifetimes lifetimes_;
  std::vector<InstanceId> current_;                   // by storage: static, or the first run's
  std::vector<InstanceId> recomputed_;                // by storage
  std::vector<std::vector<InstanceId>> frees_after_;  // by recorded operator
  std::vector<char> is_in_block_;                     // by operator
  std::vector<SegmentState> segments_;
  BuiltSchedule built_;
};

// ---- what cannot run -------------------------------------------------------------------------

std::optional<std::string> ScheduleBuilder::overwritten_input(const SegmentFacts& facts) const {
  for (std::size_t o = index(facts.segment.first); o <= index(facts.segment.last); ++o) {
    const Op& op = trace_.ops[o];
    for (const StorageId id : op.writes) {
      const bool is_made_before =
          !analysis_.is_static(id) &&
          analysis_.creator(id) < static_cast<OpPosition>(facts.segment.first);
      if (is_made_before || trace_.storages[index(id)].role == Role::input) {
        return "one of the variables needed for gradient computation has been modified by an "
               "inplace operation: " +
               op.name + (op.module.empty() ? "" : " in " + op.module) +
               " overwrites an input of its own checkpoint";
      }
    }
    if (op.flags.not_recomputable) {
      return op.name + (op.module.empty() ? "" : " in " + op.module) +
             " may not run twice in a step";
    }
  }
  return std::nullopt;
}

std::optional<std::string> ScheduleBuilder::invalid_reason() const {
  if (storage_.invalid_reason()) return storage_.invalid_reason();
  for (const SegmentFacts& facts : analysis_.segments()) {
    if (std::optional<std::string> reason = overwritten_input(facts)) return reason;
    const bool has_gradient_input =
        std::any_of(facts.inputs.begin(), facts.inputs.end(),
                    [&](StorageId id) { return analysis_.requires_grad(id); });
    if (lifetimes_.is_reentrant() && !has_gradient_input && facts.first_backward != no_op) {
      return "None of the inputs of the checkpoint " + facts.segment.blocks.front() +
             " have requires_grad=True: gradients of its parameters would be None; the method "
             "non_reentrant needs none";
    }
  }
  return std::nullopt;
}

// ---- writing the steps -----------------------------------------------------------------------

Term ScheduleBuilder::first_term(StorageId id, std::size_t op) const {
  const Op& maker = trace_.ops[op];
  if (maker.phase == Phase::optimizer) return Term::optimizer_step;
  if (maker.phase == Phase::backward) {
    return trace_.storages[index(id)].role == Role::gradient ? Term::gradients
                                                             : Term::activation_gradients;
  }
  if (lifetimes_.is_input(id)) return Term::held_checkpoints;
  return is_in_block_[op] != 0 ? Term::activations : Term::outside_blocks;
}

void ScheduleBuilder::free_after(OpPosition position, InstanceId id) {
  if (position != never) frees_after_[static_cast<std::size_t>(position)].push_back(id);
}

InstanceId ScheduleBuilder::read_instance(StorageId id, std::size_t op) const {
  const std::int32_t segment = analysis_.segment_of(op);
  if (segment == no_segment || trace_.ops[op].phase == Phase::forward) return current_[index(id)];
  const SegmentState& state = segments_[static_cast<std::size_t>(segment)];
  if (!state.is_recomputed) return current_[index(id)];
  return instance_for_rerun(static_cast<std::size_t>(segment), id);
}

InstanceId ScheduleBuilder::instance_for_rerun(std::size_t segment, StorageId id) const {
  if (analysis_.home(id) == static_cast<std::int32_t>(segment)) return recomputed_[index(id)];
  const SegmentState& state = segments_[segment];
  const std::vector<StorageId>& inputs = analysis_.segments()[segment].inputs;
  const auto input = std::find(inputs.begin(), inputs.end(), id);
  if (input != inputs.end()) return state.inputs[static_cast<std::size_t>(input - inputs.begin())];
  for (const auto& [storage, copy] : state.restored) {
    if (storage == id) return copy;
  }
  return current_[index(id)];
}

// The reentrant method first runs a segment with gradients off. What the operator omits then must
// be nobody's but the segment's own backward, which reads the recomputed one.
bool ScheduleBuilder::runs_without_gradients(std::size_t o) const {
  const Op& op = trace_.ops[o];
  const std::int32_t segment = analysis_.segment_of(o);
  if (!lifetimes_.is_reentrant() || !op.no_grad || segment == no_segment) return false;
  if (op.phase != Phase::forward || lifetimes_.is_kept(o)) return false;
  return std::none_of(op.no_grad->omits.begin(), op.no_grad->omits.end(), [&](StorageId id) {
    const std::vector<OpPosition>& uses = analysis_.uses(id);
    return lifetimes_.outlives_step(id) ||
           std::any_of(uses.begin(), uses.end(), [&](OpPosition use) {
             return analysis_.segment_of(static_cast<std::size_t>(use)) != segment;
           });
  });
}

void ScheduleBuilder::run_first(std::size_t o) {
  const Op& op = trace_.ops[o];
  Run run{.op = make_id<OpId>(o), .reads = {}, .writes = {}, .creates = {}};
  if (runs_without_gradients(o)) run.gradients = Gradients::off;
  for (const StorageId id : op.reads) run.reads.push_back(read_instance(id, o));
  for (const StorageId id : op.writes) run.writes.push_back(read_instance(id, o));
  const OpForm form = form_of(op, run.gradients);
  for (const StorageId id : op.creates) {
    if (!form.makes(id)) {
      run.creates.push_back(unnamed_instance);
      continue;
    }
    const InstanceId made =
        writer_.name(id, trace_.storages[index(id)].bytes, Place::device, first_term(id, o));
    current_[index(id)] = made;
    run.creates.push_back(made);
    free_after(lifetimes_.first_death(id), made);
  }
  writer_.add(std::move(run), Cause::recorded);
}

// Buffers that a segment overwrites and that feed values (spectral norm): batch norm's statistics
// are not among them.
std::vector<StorageId> ScheduleBuilder::state_written_in(const SegmentFacts& facts) const {
  std::vector<StorageId> state;
  for (std::size_t o = index(facts.segment.first); o <= index(facts.segment.last); ++o) {
    const Op& op = trace_.ops[o];
    if (op.flags.statistics) continue;
    for (const StorageId id : op.writes) {
      const bool is_known = std::find(state.begin(), state.end(), id) != state.end();
      if (analysis_.is_static(id) && !is_known) state.push_back(id);
    }
  }
  return state;
}

void ScheduleBuilder::save_state(std::size_t segment) {
  const SegmentFacts& facts = analysis_.segments()[segment];
  for (const StorageId id : state_written_in(facts)) {
    const InstanceId copy = writer_.allocate(id, trace_.storages[index(id)].bytes, Place::device,
                                             Term::restored_state, Cause::restore_state);
    writer_.copy_whole(current_[index(id)], copy, Queue::compute, Cause::restore_state);
    segments_[segment].restored.emplace_back(id, copy);
    built_.notes.emplace_back(
        "buffer " + trace_.storages[index(id)].name +
        " feeds values and is written in a checkpoint: restored for the recomputation; the "
        "framework runs the update twice, so its gradients differ from these");
  }
}

// Where a segment multiplies with a bias, which is cuBLASLt's work. The library keeps it for good,
// so it is there from the first operator of a steady step on.
InstanceId ScheduleBuilder::allocate_recomputation_workspace() {
  const auto multiplies = [&](const SegmentFacts& facts) {
    if (lifetimes_.trigger(facts) == no_op) return false;
    const Op* begin = &trace_.ops[index(facts.segment.first)];
    const Op* end = &trace_.ops[index(facts.segment.last)] + 1;
    return std::any_of(begin, end, multiplies_with_bias);
  };
  const bool is_needed =
      trace_.recomputation_workspace_bytes > 0 &&
      std::any_of(analysis_.segments().begin(), analysis_.segments().end(), multiplies);
  if (!is_needed) return unnamed_instance;
  return writer_.allocate(no_storage, trace_.recomputation_workspace_bytes, Place::device,
                          Term::recomputed_segment, Cause::recompute);
}

void ScheduleBuilder::begin_segment(std::size_t o) {
  const std::int32_t segment = analysis_.segment_of(o);
  if (segment == no_segment || trace_.ops[o].phase != Phase::forward) return;
  const auto s = static_cast<std::size_t>(segment);
  const SegmentFacts& facts = analysis_.segments()[s];
  if (index(facts.segment.first) != o || lifetimes_.trigger(facts) == no_op) return;
  SegmentState& state = segments_[s];
  for (const StorageId id : facts.inputs) state.inputs.push_back(current_[index(id)]);
  storage_.before_forward(s, state.inputs);
  save_state(s);
  if (trace_.device.kind == DeviceKind::cpu) {
    state.generator_state = writer_.allocate(no_storage, cpu_generator_state_bytes, Place::device,
                                             Term::generator_states, Cause::generator_state);
  }
}

// The segment's function has returned when its checkpoint is dealt with, and with it everything
// went that it held. Originals go as the caller's tensors are emptied.
void ScheduleBuilder::free_others_than_moved(std::size_t o) {
  std::vector<InstanceId>& due = frees_after_[o];
  const auto moved = std::stable_partition(due.begin(), due.end(), [&](InstanceId id) {
    const StorageId storage = writer_.instance(id).storage;
    return storage == no_storage || storage_.moved_by(storage) == no_segment;
  });
  std::for_each(due.begin(), moved, [&](InstanceId id) { writer_.free(id, Cause::recorded); });
  due.erase(due.begin(), moved);
}

void ScheduleBuilder::end_segment(std::size_t o) {
  const std::int32_t segment = analysis_.segment_of(o);
  if (segment == no_segment || trace_.ops[o].phase != Phase::forward) return;
  const auto s = static_cast<std::size_t>(segment);
  const SegmentFacts& facts = analysis_.segments()[s];
  const bool is_its_end = index(facts.segment.last) == o && lifetimes_.trigger(facts) != no_op;
  if (is_its_end) storage_.after_forward(s);
}

void ScheduleBuilder::recompute_before(std::size_t o) {
  const std::int32_t segment = analysis_.segment_of(o);
  if (segment == no_segment || trace_.ops[o].phase != Phase::backward) return;
  const auto s = static_cast<std::size_t>(segment);
  if (lifetimes_.trigger(analysis_.segments()[s]) == static_cast<OpPosition>(o)) {
    recompute(s, static_cast<OpPosition>(o));
  }
}

void ScheduleBuilder::recompute(std::size_t segment, OpPosition at) {
  const SegmentFacts& facts = analysis_.segments()[segment];
  SegmentState& state = segments_[segment];
  const std::vector<InstanceId> originals = state.inputs;
  state.inputs = storage_.before_recomputation(segment, originals);
  state.is_recomputed = true;
  for (std::size_t i = 0; i < facts.inputs.size(); ++i) {
    const StorageId input = facts.inputs[i];
    if (!storage_.is_moved(segment, input)) continue;
    // An original that others hold dies when they let go of it.
    const bool is_theirs =
        state.inputs[i] == originals[i] && storage_.held_by_others_until(input) != no_op;
    const bool is_ours = !is_theirs && state.inputs[i] != writer_.static_instance(input);
    if (is_ours) free_after(lifetimes_.hold_end(facts), state.inputs[i]);
  }
  for (const InstanceId id : storage_.beside_originals(segment)) {
    free_after(lifetimes_.hold_end(facts), id);
  }
  for (const auto& [storage, copy] : state.restored) free_after(lifetimes_.hold_end(facts), copy);

  const auto first = index(facts.segment.first);
  const OpPosition last = lifetimes_.recomputed_last(facts);
  if (last != no_op) {
    // The generator's present state, kept while the segment draws again from its own.
    InstanceId present = unnamed_instance;
    if (state.generator_state != unnamed_instance) {
      present = writer_.allocate(no_storage, cpu_generator_state_bytes, Place::device,
                                 Term::generator_states, Cause::generator_state);
    }
    std::vector<std::vector<InstanceId>> local_frees(static_cast<std::size_t>(last) - first + 1);
    for (std::size_t o = first; o <= static_cast<std::size_t>(last); ++o) {
      if (lifetimes_.is_kept(o)) {
        hand_over(segment, o, at, local_frees);
      } else {
        run_again(segment, o, at, local_frees);
      }
      for (const InstanceId id : local_frees[o - first]) writer_.free(id, Cause::recompute);
    }
    if (present != unnamed_instance) writer_.free(present, Cause::generator_state);
  }
  let_go_of_unreached(segment, last);
  // The reentrant node keeps its state as a plain attribute, so it lives as long as the graph: to
  // the end of the step. The other form lets go with its last saved value.
  if (state.generator_state != unnamed_instance && !lifetimes_.is_reentrant()) {
    free_after(lifetimes_.hold_end(facts), state.generator_state);
  }
}

void ScheduleBuilder::run_again(std::size_t segment, std::size_t o, OpPosition at,
                                std::vector<std::vector<InstanceId>>& local_frees) {
  const SegmentFacts& facts = analysis_.segments()[segment];
  const std::size_t first = index(facts.segment.first);
  const Op& op = trace_.ops[o];
  Run run{.op = make_id<OpId>(o), .reads = {}, .writes = {}, .creates = {}};
  for (const StorageId id : op.reads) run.reads.push_back(instance_for_rerun(segment, id));
  for (const StorageId id : op.writes) run.writes.push_back(instance_for_rerun(segment, id));
  for (const StorageId id : op.creates) {
    const InstanceId made =
        writer_.name(id, trace_.storages[index(id)].bytes, Place::device, Term::recomputed_segment);
    recomputed_[index(id)] = made;
    run.creates.push_back(made);
    const OpPosition death = lifetimes_.recomputed_death(id, facts);
    if (death >= at) {
      free_after(death, made);
    } else {
      local_frees[static_cast<std::size_t>(death) - first].push_back(made);
    }
  }
  writer_.add(std::move(run), Cause::recompute);
}

// In the place of running a kept operator again: its first results serve.
void ScheduleBuilder::hand_over(std::size_t segment, std::size_t o, OpPosition at,
                                std::vector<std::vector<InstanceId>>& local_frees) {
  const SegmentFacts& facts = analysis_.segments()[segment];
  for (const StorageId id : trace_.ops[o].creates) {
    const InstanceId made = current_[index(id)];
    recomputed_[index(id)] = made;
    if (lifetimes_.outlives_step(id)) continue;
    const OpPosition again = lifetimes_.recomputed_death(id, facts);
    const OpPosition death = std::max(again, lifetimes_.forward_death(id));
    if (death >= at) {
      free_after(death, made);
    } else {
      local_frees[static_cast<std::size_t>(again) - index(facts.segment.first)].push_back(made);
    }
  }
}

// What is kept behind the recomputation's end stays until the checkpoint itself goes.
void ScheduleBuilder::let_go_of_unreached(std::size_t segment, OpPosition last) {
  const SegmentFacts& facts = analysis_.segments()[segment];
  const auto begin =
      static_cast<std::size_t>(std::max(last + 1, static_cast<OpPosition>(facts.segment.first)));
  for (std::size_t o = begin; o <= index(facts.segment.last); ++o) {
    if (!lifetimes_.is_kept(o)) continue;
    for (const StorageId id : trace_.ops[o].creates) {
      const InstanceId made = current_[index(id)];
      recomputed_[index(id)] = made;
      if (lifetimes_.outlives_step(id)) continue;
      free_after(std::max(lifetimes_.hold_end(facts), lifetimes_.forward_death(id)), made);
    }
  }
}

void ScheduleBuilder::note_emulation() {
  if (setting_.partition_activations && setting_.model_parallel_size > 1) {
    built_.notes.push_back("emulated in one process: this rank's 1/" +
                           std::to_string(setting_.model_parallel_size) +
                           " of each checkpoint is kept and the gather is copied; the peers' "
                           "slices count in no peak");
  }
  const bool has_statistics = std::any_of(
      analysis_.segments().begin(), analysis_.segments().end(), [&](const SegmentFacts& facts) {
        const auto first = trace_.ops.begin() + static_cast<std::int64_t>(facts.segment.first);
        const auto last = trace_.ops.begin() + static_cast<std::int64_t>(facts.segment.last);
        return std::any_of(first, last + 1, [](const Op& op) { return op.flags.statistics; });
      });
  if (has_statistics) {
    built_.notes.emplace_back(
        "batch-norm statistics are updated twice, as under the framework's checkpointing");
  }
}

}  // namespace

std::variant<BuiltSchedule, InvalidSetting> build_schedule(const StepTrace& trace,
                                                           const std::vector<BlockRun>& runs,
                                                           const Setting& setting,
                                                           const BuildOptions& options) {
  std::vector<Segment> segments;
  if (setting.number_checkpoints) {
    if (*setting.number_checkpoints < 1) {
      return InvalidSetting{"number_checkpoints must be at least 1"};
    }
    if (runs.empty())
      return InvalidSetting{"no repeated blocks were found; name them with --blocks"};
    segments = make_segments(runs, *setting.number_checkpoints, setting.uneven);
  }
  const std::size_t made = segments.size();
  ScheduleBuilder builder(trace, setting, options, runs, std::move(segments));
  std::variant<BuiltSchedule, InvalidSetting> outcome = builder.build();
  auto* built = std::get_if<BuiltSchedule>(&outcome);
  if (built != nullptr && setting.number_checkpoints &&
      made < static_cast<std::size_t>(*setting.number_checkpoints)) {
    built->notes.push_back("number_checkpoints " + std::to_string(*setting.number_checkpoints) +
                           " gives " + std::to_string(made) +
                           " segments, because all but the last hold equally many blocks");
  }
  return outcome;
}

Schedule plain_schedule(const StepTrace& trace, const BuildOptions& options) {
  auto built = build_schedule(trace, {}, Setting{}, options);
  return std::move(std::get<BuiltSchedule>(built).schedule);
}

}  // namespace tidemark
