#include "operator_kinds.hpp"

#include <algorithm>
#include <array>

namespace tidemark {

std::string_view bare_name(std::string_view operator_name) {
  const std::size_t colons = operator_name.rfind("::");
  return colons == std::string_view::npos ? operator_name : operator_name.substr(colons + 2);
}

bool is_matmul(std::string_view bare) {
  static constexpr std::array<std::string_view, 7> names{"mm",     "addmm",  "bmm",       "baddbmm",
                                                         "linear", "matmul", "_scaled_mm"};
  return std::find(names.begin(), names.end(), bare) != names.end();
}

bool is_attention(std::string_view bare) {
  return bare == "attention" || bare.starts_with("_scaled_dot_product_") ||
         bare.starts_with("_flash_attention_forward") ||
         bare.starts_with("_efficient_attention_forward");
}

bool is_convolution(std::string_view bare) {
  return bare.find("convolution") != std::string_view::npos || bare.starts_with("cudnn_conv") ||
         bare.starts_with("conv");
}

}  // namespace tidemark
