#pragma once

#include "command.hpp"

namespace tidemark {

[[nodiscard]] ExitCode run_run(const Arguments& arguments, const Streams& streams);

}  // namespace tidemark
