#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark::tide {

// A place in a vector; -1 and the like are never asked for.
[[nodiscard]] constexpr std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace tidemark::tide
