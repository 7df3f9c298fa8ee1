// What published policies decide by: an operator's name.
#pragma once

#include <string_view>

namespace tidemark {

// "aten::addmm" is "addmm"; names without a namespace stay as they are.
[[nodiscard]] std::string_view bare_name(std::string_view operator_name);

[[nodiscard]] bool is_matmul(std::string_view bare);
[[nodiscard]] bool is_attention(std::string_view bare);
[[nodiscard]] bool is_convolution(std::string_view bare);

}  // namespace tidemark
