// Forward keeps some values for backward; the others that backward needs are made again once, right
// before their first use there, and held to their last one. What several planners decide about is
// which values to keep.
#pragma once

#include <vector>

#include "run_sequence.hpp"
#include "tide/step_graph.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

class RecomputeOnce {
 public:
  RecomputeOnce(const StepTrace& trace, const PlanRequest& request);

  [[nodiscard]] const tide::StepGraph& graph() const { return graph_; }
  // Where forward is over.
  [[nodiscard]] tide::Position backward() const { return backward_; }
  [[nodiscard]] bool is_made_in_forward(tide::ValueId v) const {
    return !graph_.is_static(v) && graph_.value(v).creator < backward_;
  }
  // Made in forward, can be made again at any time, and does not outlive the step.
  [[nodiscard]] bool may_be_dropped(tide::ValueId v) const {
    return may_be_dropped_[static_cast<std::size_t>(v)] != 0;
  }
  // Read after forward, or outliving the step.
  [[nodiscard]] bool is_needed_in_backward(tide::ValueId v) const {
    return is_needed_[static_cast<std::size_t>(v)] != 0;
  }
  // The last operator of forward that reads or overwrites it; -1: none.
  [[nodiscard]] tide::Position last_use_in_forward(tide::ValueId v) const {
    return last_use_[static_cast<std::size_t>(v)];
  }

  // By value: whether forward keeps it. What may not be dropped is kept in any case.
  [[nodiscard]] Schedule schedule(std::vector<char> is_kept) const;

 private:
  void find_droppable();
  void repeat_for(tide::Position p, std::vector<char>& is_there,
                  std::vector<SequenceRun>& sequence) const;

  const StepTrace& trace_;
  const PlanRequest& request_;
  tide::StepGraph graph_;
  tide::Position backward_ = 0;
  std::vector<char> may_be_dropped_;  // by value
  std::vector<char> is_needed_;       // by value
  std::vector<tide::Position> last_use_;
};

}  // namespace tidemark
