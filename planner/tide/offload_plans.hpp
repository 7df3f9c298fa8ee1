// Plans that offload: at each rung of the ladder, and for each of a few lengths that the step may
// grow to, the values that go to the host are chosen first, for nothing where their copies hide
// behind the operators; what still does not fit is made again, as in plans without offload.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "offload.hpp"
#include "search.hpp"
#include "tidemark/planner.hpp"

namespace tidemark::tide {

class OffloadPlans {
 public:
  // `rungs`: budgets, ascending. Their plans do not depend on the request's budget.
  OffloadPlans(const StepGraph& graph, const PlanRequest& request, std::vector<Bytes> rungs);

  // The plans of all rungs within the budget, the fastest one last; with a limit other than live
  // bytes all of them, else none but that one.
  [[nodiscard]] std::vector<Schedule> plan();
  // Of the last plan(): its fastest takes no longer than the operators do when each runs once.
  [[nodiscard]] bool is_optimal() const { return is_optimal_; }
  [[nodiscard]] bool is_stopped() { return search_.is_stopped(); }

 private:
  [[nodiscard]] std::unique_ptr<Retention> fit(const OffloadChoice& choice, Bytes rung,
                                               std::vector<std::vector<Offload>>& tried);
  [[nodiscard]] std::unique_ptr<Retention> fit(const std::vector<Offload>& offloads, Bytes budget);
  void add(const Retention& plan);

  const StepGraph& graph_;
  const PlanRequest& request_;
  std::vector<Bytes> rungs_;
  Retention everything_;
  Search search_;
  std::vector<Schedule> schedules_;
  std::optional<double> fastest_seconds_;
  bool is_optimal_ = false;
};

}  // namespace tidemark::tide
