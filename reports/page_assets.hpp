// The report page's parts, put into the program when it is built.
#pragma once

#include <string_view>

namespace tidemark {

[[nodiscard]] std::string_view page_html();
[[nodiscard]] std::string_view page_css();
[[nodiscard]] std::string_view page_js();
[[nodiscard]] std::string_view chart_js();  // Chart.js, minified, with its licence

}  // namespace tidemark
