#pragma once

namespace tidemark {

// The parsers do not fear for their stack, but what is nested deeper than any file of ours is
// damage.
inline constexpr int deepest_nesting = 200;

}  // namespace tidemark
