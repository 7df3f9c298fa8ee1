// The values of a trace's static storages: from the program that it was recorded from, from the
// trace itself, or made from its seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "execution_memory.hpp"
#include "recorder.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// The bytes of a static storage before the step.
struct StaticValue {
  std::string name;
  Role role = Role::input;
  std::vector<std::uint8_t> bytes;
};

// Copies from these values, matched by name and role, where they have the storage's size; the rest
// is made from the seed: small normal numbers for parameters and inputs, [0.5, 1.5) for buffers
// (variances must be positive), zeros for what an optimizer keeps. Throws InputError where a value
// has another size than the trace's storage. The trace must outlive it.
[[nodiscard]] FillStorage fill_from(const StepTrace& trace, std::vector<StaticValue> values);

[[nodiscard]] std::vector<StaticValue> values_of(Backend& backend,
                                                 const std::vector<StaticTensor>& tensors);

}  // namespace tidemark
