// Parts of sweep.json that a row's own file shares.
#pragma once

#include "json_reading.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

[[nodiscard]] OrderedJson row_to_json(const SweepRow& row);
[[nodiscard]] SweepRow read_row(const JsonCursor& json);

}  // namespace tidemark
