// Damage to a JSON document that leaves it valid JSON: what a byte-wise mutation rarely reaches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace tidemark::test {

namespace detail {

inline void collect(nlohmann::json& node, std::vector<nlohmann::json*>& nodes) {
  nodes.push_back(&node);
  if (!node.is_structured()) return;
  for (nlohmann::json& child : node) collect(child, nodes);
}

inline nlohmann::json unexpected_value(std::mt19937& random) {
  static const std::vector<nlohmann::json> values{
      nullptr,
      true,
      0,
      -1,
      1,
      2147483647,
      2147483648,
      std::numeric_limits<std::int64_t>::max(),
      std::numeric_limits<std::int64_t>::min(),
      std::numeric_limits<std::uint64_t>::max(),
      0.5,
      1e308,
      -1e308,
      "",
      "text",
      "line\nbreak",
      std::string(1000, 'x'),
      nlohmann::json::array(),
      nlohmann::json::object(),
      nlohmann::json::array({0}),
      {{"list", nlohmann::json::array()}, {"of", "int"}},
      {{"t", nullptr}},
  };
  return values[random() % values.size()];
}

}  // namespace detail

// The nth damaged copy: a key or item removed, doubled or added, a value replaced by one of another
// type or of an extreme size, or wrapped in many lists.
inline std::string structurally_damaged(const std::string& text, std::uint32_t n) {
  std::mt19937 random(n);
  nlohmann::json document = nlohmann::json::parse(text);
  const std::size_t damages = 1 + random() % 2;
  for (std::size_t d = 0; d < damages; ++d) {
    std::vector<nlohmann::json*> nodes;
    detail::collect(document, nodes);
    nlohmann::json& node = *nodes[random() % nodes.size()];
    const bool has_children = node.is_structured() && !node.empty();
    switch (random() % 5) {
      case 0:
        if (has_children) {
          node.erase(std::next(node.begin(), static_cast<std::ptrdiff_t>(random() % node.size())));
        }
        break;
      case 1:
        if (has_children && node.is_array()) {
          const nlohmann::json item = node[random() % node.size()];
          node.push_back(item);
        }
        break;
      case 2:
        if (node.is_array()) node.push_back(detail::unexpected_value(random));
        if (node.is_object()) node["line\nbreak"] = detail::unexpected_value(random);
        break;
      case 3:
        for (auto depth = random() % 300; depth > 0; --depth) {
          nlohmann::json outer = nlohmann::json::array();
          outer.push_back(std::move(node));
          node = std::move(outer);
        }
        break;
      default:
        node = detail::unexpected_value(random);
        break;
    }
  }
  return document.dump();
}

}  // namespace tidemark::test
