// When what a checkpointed step holds goes: the first instance of each storage, the recomputed one,
// and the operators between which a segment's checkpoint is held. Pure; private to the core.
#pragma once

#include <vector>

#include "checkpoint_storage.hpp"
#include "step_analysis.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

class Lifetimes {
 public:
  // Keeps references to all but the options.
  Lifetimes(const StepTrace& trace, const StepAnalysis& analysis, const CheckpointStorage& storage,
            Method method, const BuildOptions& options);

  [[nodiscard]] bool is_reentrant() const { return method_ == Method::reentrant; }
  // Of any segment.
  [[nodiscard]] bool is_input(StorageId id) const { return is_input_[index(id)] != 0; }
  // Not run again: its results stay.
  [[nodiscard]] bool is_kept(std::size_t op) const { return is_kept_[op] != 0; }
  [[nodiscard]] bool outlives_step(StorageId id) const {
    return is_held_output_[index(id)] != 0 || analysis_.recorded_death(id) == never;
  }

  // The backward operator before which a segment runs again; no_op: it never does.
  [[nodiscard]] OpPosition trigger(const SegmentFacts& facts) const;
  // How long a segment holds its inputs: until its nodes have let go of what they saved.
  [[nodiscard]] OpPosition hold_end(const SegmentFacts& facts) const;
  // The last operator that runs again.
  [[nodiscard]] OpPosition recomputed_last(const SegmentFacts& facts) const;

  // After which recorded operator the first instance goes; never: it stays, or goes with something
  // else (a kept operator's result with the recomputation, a moved checkpoint with its copy).
  [[nodiscard]] OpPosition first_death(StorageId id) const;
  // The same for what forward made, handed over to the recomputation or not.
  [[nodiscard]] OpPosition forward_death(StorageId id) const;
  // The recomputed instance: before the trigger, an operator of the recomputation; else a recorded
  // one.
  [[nodiscard]] OpPosition recomputed_death(StorageId id, const SegmentFacts& facts) const;

 private:
  [[nodiscard]] bool is_handed_over(StorageId id) const;

  const StepAnalysis& analysis_;
  const CheckpointStorage& storage_;
  Method method_;
  std::vector<char> is_held_output_;
  std::vector<char> is_input_;
  std::vector<char> is_kept_;  // by operator
};

}  // namespace tidemark
