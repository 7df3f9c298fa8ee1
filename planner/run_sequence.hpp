// A plan as the operators that run, one after the other: what planners that do not hold values at
// all costs end in. What is made dies after its last use before it is made again.
#pragma once

#include <vector>

#include "tidemark/schedule.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// One run of an operator.
struct SequenceRun {
  OpId op{};
  bool is_repeated = false;
  // Of a repeated run: what it makes anew; its further results die at once.
  std::vector<StorageId> makes;
};

// Every operator's first run is in the sequence, in the recorded order. A repeated run whose
// results nobody reads is left out.
[[nodiscard]] Schedule write_sequence(const StepTrace& trace, const std::vector<BlockRun>& runs,
                                      const std::vector<SequenceRun>& sequence);

}  // namespace tidemark
