// Which term of a peak an instance counts to, for the planners' writers of schedules.
#pragma once

#include <vector>

#include "tidemark/schedule.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

class InstanceTerms {
 public:
  InstanceTerms(const StepTrace& trace, const std::vector<BlockRun>& runs)
      : trace_(trace), is_in_block_(trace.ops.size(), 0) {
    for (const BlockRun& run : runs) {
      for (std::size_t o = index(run.blocks.front().first); o <= index(run.blocks.back().last);
           ++o) {
        is_in_block_[o] = 1;
      }
    }
  }

  // Of what the operator makes when it runs for the first time.
  [[nodiscard]] Term first_run(StorageId made, OpId op) const {
    const Phase phase = trace_.ops[index(op)].phase;
    if (phase == Phase::optimizer) return Term::optimizer_step;
    if (phase == Phase::backward) {
      return trace_.storages[index(made)].role == Role::gradient ? Term::gradients
                                                                 : Term::activation_gradients;
    }
    return is_in_block_[index(op)] != 0 ? Term::activations : Term::outside_blocks;
  }

 private:
  const StepTrace& trace_;
  std::vector<char> is_in_block_;  // by operator
};

}  // namespace tidemark
