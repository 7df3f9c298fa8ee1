// The planners, for the registry alone: the world reaches them through planners().
#pragma once

#include "tidemark/planner.hpp"

namespace tidemark {

[[nodiscard]] const Planner& keep_all_planner();
[[nodiscard]] const Planner& every_n_blocks_planner();
[[nodiscard]] const Planner& tide_planner();

}  // namespace tidemark
