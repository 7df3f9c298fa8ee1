// The planners, for the registry alone: the world reaches them through planners().
#pragma once

#include "tidemark/planner.hpp"

namespace tidemark {

[[nodiscard]] const Planner& keep_all_planner();
[[nodiscard]] const Planner& recompute_all_planner();
[[nodiscard]] const Planner& every_n_blocks_planner();
[[nodiscard]] const Planner& square_root_planner();
[[nodiscard]] const Planner& chen_greedy_planner();
[[nodiscard]] const Planner& rotor_planner();
[[nodiscard]] const Planner& torchtitan_planner();
[[nodiscard]] const Planner& pytorch_budget_planner();
[[nodiscard]] const Planner& msps_planner();
[[nodiscard]] const Planner& dtr_planner();
[[nodiscard]] const Planner& tide_planner();

}  // namespace tidemark
