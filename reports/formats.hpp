// The exporters, for the registry alone: the world reaches them through exporters().
#pragma once

#include "tidemark/export.hpp"

namespace tidemark {

[[nodiscard]] const Exporter& table_exporter();
[[nodiscard]] const Exporter& csv_exporter();
[[nodiscard]] const Exporter& markdown_exporter();
[[nodiscard]] const Exporter& json_exporter();
[[nodiscard]] const Exporter& html_exporter();
[[nodiscard]] const Exporter& perfetto_exporter();
[[nodiscard]] const Exporter& snapshot_exporter();

}  // namespace tidemark
