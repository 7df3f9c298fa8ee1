// The budgets that planners try: equal steps of what the step needs beyond static memory. They do
// not depend on the budget that was asked for, so that a larger one only adds plans to choose from.
#pragma once

#include <vector>

#include "tidemark/planner.hpp"

namespace tidemark {

// Multiples of (peak - static) / rungs above static, ascending: those that the lower bound on the
// peak does not rule out, up to the peak itself.
[[nodiscard]] std::vector<Bytes> budget_ladder(const StepTrace& trace, int rungs);

}  // namespace tidemark
