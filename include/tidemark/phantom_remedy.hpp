// What a user can do about a call that a phantom GPU does not answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tidemark/phantom_call.hpp"

namespace tidemark {

// One sentence about the library or operator that the call belongs to; empty: nothing is known.
[[nodiscard]] std::string_view phantom_remedy(std::string_view call_name);

// Those of all calls that were not just ignored, each once.
[[nodiscard]] std::vector<std::string> phantom_remedies(const std::vector<PhantomCall>& calls);

}  // namespace tidemark
