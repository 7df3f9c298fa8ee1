// The values of a trace's static storages: from the program that it was recorded from, from the
// trace itself, or made from its seed.
#pragma once

#include <vector>

#include "execution_memory.hpp"
#include "recorder.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Copies from these tensors, matched by name and role, where they have the storage's size; the rest
// is made from the seed: small normal numbers for parameters and inputs, [0.5, 1.5) for buffers
// (variances must be positive), zeros for what an optimizer keeps. Throws InputError where a tensor
// has another size than the trace's storage.
[[nodiscard]] FillStorage fill_from(const StepTrace& trace,
                                    const std::vector<StaticTensor>& tensors);

}  // namespace tidemark
