// What a phantom GPU could not answer exactly while this process worked on it.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"

namespace tidemark {

// Adds one sentence that names each call, if there was any; elsewhere than on a phantom there is
// none.
void note_unanswered_calls(std::vector<std::string>& notes);

// `code`, or failed with a sentence when there were such calls and `is_strict`.
[[nodiscard]] ExitCode judge_unanswered_calls(ExitCode code, bool is_strict,
                                              const Streams& streams);

}  // namespace tidemark
