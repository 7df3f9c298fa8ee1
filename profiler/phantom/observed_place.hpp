// Where in the step the calling thread is, as the marks that torch leaves in every program tell.
#pragma once

#include <vector>

#include "process_record.hpp"

namespace tidemark::phantom {

// The operators and autograd nodes that run, the innermost one last. Their names are torch's.
[[nodiscard]] const std::vector<const char*>& running_operations();

[[nodiscard]] Phase current_phase();

}  // namespace tidemark::phantom
