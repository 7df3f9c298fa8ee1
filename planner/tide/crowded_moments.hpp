// The moments of a step at which a budget is exceeded most.
#pragma once

#include <vector>

#include "step_graph.hpp"

namespace tidemark::tide {

// At most a dozen: the highest level when everything is held from its creation to its last use, and
// the highest of each stretch of the step where that is over the budget; the highest first.
[[nodiscard]] std::vector<Position> crowded_moments(const StepGraph& graph, Bytes budget);

}  // namespace tidemark::tide
