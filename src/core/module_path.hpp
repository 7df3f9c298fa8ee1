// Paths of modules: "transformer.h.3" lies inside "transformer.h" and itself. Private to the core.
#pragma once

#include <string_view>

namespace tidemark {

// The root's path is empty.
[[nodiscard]] inline bool is_inside(std::string_view path, std::string_view ancestor) {
  return ancestor.empty() || path == ancestor ||
         (path.size() > ancestor.size() && path.starts_with(ancestor) &&
          path[ancestor.size()] == '.');
}

}  // namespace tidemark
