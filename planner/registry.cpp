// Every strategy, one line each.
#include <array>
#include <span>

#include "strategies.hpp"

namespace tidemark {

std::span<const Planner* const> planners() {
  static const std::array<const Planner*, 11> all{
      &keep_all_planner(),    &recompute_all_planner(),  &every_n_blocks_planner(),
      &square_root_planner(), &chen_greedy_planner(),    &rotor_planner(),
      &torchtitan_planner(),  &pytorch_budget_planner(), &msps_planner(),
      &dtr_planner(),         &tide_planner(),
  };
  return all;
}

}  // namespace tidemark
