// tidemark export: the chosen setting in a framework's own syntax.
#pragma once

#include "command.hpp"

namespace tidemark {

[[nodiscard]] ExitCode run_export(const Arguments& arguments, const Streams& streams);

}  // namespace tidemark
