#pragma once

#include <variant>

#include "tidemark/setting.hpp"

namespace tidemark::test {

// A setting's schedule, over the blocks that the trace itself shows.
inline Schedule scheduled(const StepTrace& trace, const Setting& setting) {
  return std::get<BuiltSchedule>(build_schedule(trace, find_blocks(trace), setting)).schedule;
}

}  // namespace tidemark::test
