// A schedule as JSON: its instances, and its steps as objects whose first key names the kind.
#pragma once

#include "json_reading.hpp"
#include "tidemark/schedule.hpp"

namespace tidemark {

[[nodiscard]] OrderedJson schedule_to_json(const Schedule& schedule);
[[nodiscard]] Schedule read_schedule(const JsonCursor& json);

}  // namespace tidemark
