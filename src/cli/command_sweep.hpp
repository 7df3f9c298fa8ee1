#pragma once

#include "command.hpp"

namespace tidemark {

[[nodiscard]] ExitCode run_sweep_command(const Arguments& arguments, const Streams& streams);

}  // namespace tidemark
