#pragma once

#include "command.hpp"

namespace tidemark {

[[nodiscard]] ExitCode run_lint(const Arguments& arguments, const Streams& streams);

}  // namespace tidemark
