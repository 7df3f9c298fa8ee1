// A recorded call as JSON: each item null or an object with one key that names its kind.
#pragma once

#include "json_reading.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

[[nodiscard]] OrderedJson tensor_view_to_json(const TensorView& view);
[[nodiscard]] TensorView read_tensor_view(const JsonCursor& json);
[[nodiscard]] OrderedJson call_to_json(const Call& call);
[[nodiscard]] Call read_call(const JsonCursor& json);

}  // namespace tidemark
