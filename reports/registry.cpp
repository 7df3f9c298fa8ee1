// Every output format, one line each.
#include <array>
#include <span>

#include "formats.hpp"

namespace tidemark {

std::span<const Exporter* const> exporters() {
  static const auto all = std::to_array<const Exporter*>({
      &table_exporter(),
      &csv_exporter(),
      &markdown_exporter(),
      &json_exporter(),
      &html_exporter(),
      &perfetto_exporter(),
      &snapshot_exporter(),
  });
  return all;
}

}  // namespace tidemark
