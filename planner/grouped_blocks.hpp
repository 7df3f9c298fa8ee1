// Segments of equally many blocks, in PyTorch's non-reentrant form: what several planners choose
// the number of.
#pragma once

#include <cstdint>
#include <optional>

#include "tidemark/planner.hpp"

namespace tidemark {

// Absent: the step cannot run in that grouping.
[[nodiscard]] std::optional<Schedule> grouped_blocks(const StepTrace& trace,
                                                     const PlanRequest& request,
                                                     std::int32_t segments);

// Over all runs.
[[nodiscard]] std::int32_t block_count(const PlanRequest& request);

}  // namespace tidemark
