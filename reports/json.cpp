// sweep.json itself.
#include <ostream>

#include "formats.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

class JsonExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "json"; }
  [[nodiscard]] std::string_view description() const override {
    return "everything, as sweep.json holds it";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    out << format_sweep(source.sweep());
  }
};

}  // namespace

const Exporter& json_exporter() {
  static const JsonExporter exporter;
  return exporter;
}

}  // namespace tidemark
