#include "recompute_once.hpp"

#include <algorithm>
#include <utility>

namespace tidemark {

using tide::Position;
using tide::ValueId;

RecomputeOnce::RecomputeOnce(const StepTrace& trace, const PlanRequest& request)
    : trace_(trace),
      request_(request),
      graph_(trace),
      may_be_dropped_(trace.storages.size(), 0),
      is_needed_(trace.storages.size(), 0),
      last_use_(trace.storages.size(), -1) {
  const auto after_forward = std::find_if(trace.ops.begin(), trace.ops.end(),
                                          [](const Op& op) { return op.phase != Phase::forward; });
  backward_ = static_cast<Position>(after_forward - trace.ops.begin());
  for (Position p = 0; p < backward_; ++p) {
    for (const ValueId v : graph_.at(p).operands) last_use_[static_cast<std::size_t>(v)] = p;
  }
  for (Position p = backward_; p <= graph_.end(); ++p) {
    for (const ValueId v : graph_.at(p).operands) is_needed_[static_cast<std::size_t>(v)] = 1;
  }
  find_droppable();
}

// What is overwritten after forward could not be had in an older version.
void RecomputeOnce::find_droppable() {
  for (ValueId v = 0; v < graph_.value_count(); ++v) {
    if (!is_made_in_forward(v)) continue;
    const std::vector<Position>& writers = graph_.value(v).writers;
    const auto may_run_again = [&](Position x) {
      return x < backward_ && graph_.at(x).again_until == graph_.end();
    };
    const std::vector<ValueId>& outlive = graph_.at(graph_.end()).operands;
    const bool may_be = std::find(outlive.begin(), outlive.end(), v) == outlive.end() &&
                        may_run_again(graph_.value(v).creator) &&
                        std::all_of(writers.begin(), writers.end(), may_run_again);
    may_be_dropped_[static_cast<std::size_t>(v)] = may_be ? 1 : 0;
  }
}

// Runs again, in the recorded order, what position p needs and is not there.
void RecomputeOnce::repeat_for(Position p, std::vector<char>& is_there,
                               std::vector<SequenceRun>& sequence) const {
  std::vector<ValueId> made;
  std::vector<Position> repeated;
  const auto need = [&](ValueId v) {
    if (std::exchange(is_there[static_cast<std::size_t>(v)], 1) != 0) return;
    made.push_back(v);
    repeated.push_back(graph_.value(v).creator);
    for (const Position writer : graph_.value(v).writers) repeated.push_back(writer);
  };
  for (const ValueId v : graph_.at(p).operands) need(v);
  for (std::size_t next = 0; next < repeated.size(); ++next) {
    for (const ValueId v : graph_.at(repeated[next]).operands) need(v);
  }
  std::sort(repeated.begin(), repeated.end());
  repeated.erase(std::unique(repeated.begin(), repeated.end()), repeated.end());
  for (const Position x : repeated) {
    SequenceRun again{
        .op = make_id<OpId>(static_cast<std::size_t>(x)), .is_repeated = true, .makes = {}};
    for (const ValueId v : graph_.at(x).creates) {
      if (std::find(made.begin(), made.end(), v) != made.end()) {
        again.makes.push_back(make_id<StorageId>(static_cast<std::size_t>(v)));
      }
    }
    sequence.push_back(std::move(again));
  }
}

Schedule RecomputeOnce::schedule(std::vector<char> is_kept) const {
  for (ValueId v = 0; v < graph_.value_count(); ++v) {
    if (!may_be_dropped(v)) is_kept[static_cast<std::size_t>(v)] = 1;
  }
  std::vector<SequenceRun> sequence;
  for (Position p = 0; p <= graph_.end(); ++p) {
    if (p >= backward_) repeat_for(p, is_kept, sequence);
    if (p == graph_.end()) break;
    sequence.push_back(
        {.op = make_id<OpId>(static_cast<std::size_t>(p)), .is_repeated = false, .makes = {}});
  }
  return write_sequence(trace_, request_.runs, sequence);
}

}  // namespace tidemark
