// Every output format, one line each.
#include <array>
#include <span>

#include "formats.hpp"

namespace tidemark {

std::span<const Exporter* const> exporters() {
  static const std::array<const Exporter*, 7> all{
      &table_exporter(), &csv_exporter(), &markdown_exporter(), &json_exporter(), &html_exporter(),
  };
  return all;
}

}  // namespace tidemark
