// The Python functions on numbers that an export with dynamic shapes holds: _operator.*, math.*,
// torch.sym_*.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace tidemark {

using SymbolicOperator = c10::IValue (*)(const std::vector<c10::IValue>&);

// nullptr: there is no such function.
[[nodiscard]] SymbolicOperator find_symbolic_operator(const std::string& target);

}  // namespace tidemark
