// What `tidemark phantom` tells of a run.
#pragma once

#include <iosfwd>
#include <string>

#include "tidemark/phantom.hpp"

namespace tidemark {

void print_phantom_run(const GpuProfile& profile, const PhantomRun& run, std::ostream& out);
// JSON: {"format": "tidemark.phantom", ...}, bytes as whole numbers.
[[nodiscard]] std::string format_phantom_run(const GpuProfile& profile, const PhantomRun& run);

}  // namespace tidemark
