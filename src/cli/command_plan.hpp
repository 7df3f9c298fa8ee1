#pragma once

#include "command.hpp"

namespace tidemark {

[[nodiscard]] ExitCode run_plan(const Arguments& arguments, const Streams& streams);

}  // namespace tidemark
