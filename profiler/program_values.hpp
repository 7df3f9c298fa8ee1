// The tensors that exist before a program's step: weights, buffers, constants, sample inputs.
#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <vector>

#include "interpreter.hpp"
#include "tidemark/program.hpp"

namespace tidemark {

struct ProgramValues {
  // One value for each graph input, in order; tied weights are the same tensor.
  std::vector<c10::IValue> inputs;
  std::vector<NamedTensor> static_tensors;
};

// Throws InputError where the sample inputs do not fit the graph.
[[nodiscard]] ProgramValues make_program_values(const Program& program, c10::Device device,
                                                std::int64_t seed);

}  // namespace tidemark
