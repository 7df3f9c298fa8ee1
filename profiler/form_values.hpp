#pragma once

#include <optional>
#include <string>

#include "backend.hpp"
#include "execution_memory.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Takes away each form with gradients off (Op::no_grad) whose results differ in any bit from the
// recorded operator's on the same inputs: with it, a schedule's gradients could not be told from
// wrong ones. (oneDNN's LSTM adds up in another order then, so PyTorch's own reentrant method gives
// other last bits too.) Returns a note that names the operators. Runs the step once, each such
// operator twice. Forms that write in place, or that the device has no memory to compare, go too.
// Does nothing where the device does not compute.
[[nodiscard]] std::optional<std::string> drop_unequal_forms(Backend& backend, StepTrace& trace,
                                                            const FillStorage& fill);

}  // namespace tidemark
