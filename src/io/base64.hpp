// RFC 4648 base64, for the few values that a trace carries.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tidemark {

[[nodiscard]] std::string to_base64(const std::vector<std::uint8_t>& bytes);
// nullopt: not base64.
[[nodiscard]] std::optional<std::vector<std::uint8_t>> from_base64(const std::string& text);

}  // namespace tidemark
