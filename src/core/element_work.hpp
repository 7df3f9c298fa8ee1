// The work of operators that go through their elements and do more with each than to read and write
// it: draw a number, evaluate a function, look something up.
#pragma once

#include <vector>

#include "tidemark/time_model.hpp"

namespace tidemark {

// Empty: it only reads and writes.
[[nodiscard]] std::vector<WorkPart> element_work(const Op& op, const Call& call);

}  // namespace tidemark
