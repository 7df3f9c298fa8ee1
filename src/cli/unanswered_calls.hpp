// What a phantom GPU could not answer exactly: while a step was recorded, as its trace tells, and
// while this process worked on it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// One sentence that names each such call, with how often the process made it that made it most; or
// that the trace does not tell. Absent: there was none, or the step is of no phantom.
[[nodiscard]] std::optional<std::string> describe_unanswered_calls(const StepTrace& trace);

// Adds that sentence, in place of an earlier one of another process.
void note_unanswered_calls(const StepTrace& trace, std::vector<std::string>& notes);

// `code`, or failed with that sentence where there is one and `is_strict`.
[[nodiscard]] ExitCode judge_unanswered_calls(ExitCode code, const StepTrace& trace, bool is_strict,
                                              const Streams& streams);

}  // namespace tidemark
