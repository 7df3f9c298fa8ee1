// What the report page shows, as the JSON text that its script reads.
#pragma once

#include <string>

#include "tidemark/export.hpp"

namespace tidemark {

// Safe inside a script element. Levels over the step are there for rows whose schedules were kept.
[[nodiscard]] std::string page_data(const ReportSource& source);

}  // namespace tidemark
