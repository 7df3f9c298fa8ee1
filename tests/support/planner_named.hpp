#pragma once

#include <stdexcept>
#include <string>

#include "tidemark/planner.hpp"

namespace tidemark::test {

inline const Planner& planner_named(const std::string& name) {
  for (const Planner* planner : planners()) {
    if (planner->name() == name) return *planner;
  }
  throw std::out_of_range(name);
}

}  // namespace tidemark::test
