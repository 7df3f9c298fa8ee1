// One page that holds everything: opens in any browser, needs no network.
#include <array>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "formats.hpp"
#include "page_assets.hpp"
#include "page_data.hpp"

namespace tidemark {

namespace {

class HtmlExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "html"; }
  [[nodiscard]] std::string_view description() const override {
    return "one page with charts, to look at and to send around";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    const std::string data = page_data(source);
    const std::array<std::pair<std::string_view, std::string_view>, 4> parts{{
        {"@@page.css@@", page_css()},
        {"@@data@@", data},
        {"@@chart.js@@", chart_js()},
        {"@@page.js@@", page_js()},
    }};
    std::string_view rest = page_html();
    for (const auto& [mark, text] : parts) {  // in the order in which the page has them
      const std::size_t at = rest.find(mark);
      out << rest.substr(0, at) << text;
      rest.remove_prefix(at + mark.size());
    }
    out << rest;
  }
};

}  // namespace

const Exporter& html_exporter() {
  static const HtmlExporter exporter;
  return exporter;
}

}  // namespace tidemark
