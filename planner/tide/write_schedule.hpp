// The schedule of a retention plan.
#pragma once

#include <vector>

#include "retention.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/schedule.hpp"

namespace tidemark::tide {

[[nodiscard]] Schedule write_schedule(const Retention& plan, const std::vector<BlockRun>& runs);

}  // namespace tidemark::tide
