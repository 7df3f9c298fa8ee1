// Parts of the trace's JSON that other files share.
#pragma once

#include "json_reading.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

[[nodiscard]] OrderedJson to_json(const TraceDevice& device);
[[nodiscard]] OrderedJson to_json(const Provenance& provenance);
[[nodiscard]] OrderedJson to_json(const TransferRates& rates);
[[nodiscard]] TransferRates read_transfer_rates(const JsonCursor& json);
[[nodiscard]] TraceDevice read_device(const JsonCursor& json);
[[nodiscard]] Provenance read_provenance(const JsonCursor& json);
[[nodiscard]] std::string_view name(Role role);
[[nodiscard]] std::string_view name(Phase phase);

}  // namespace tidemark
