// Foreign text inside a message of one line.
#pragma once

#include <string>

namespace tidemark {

// Text from a file, fit for a message: control characters become question marks.
[[nodiscard]] std::string one_line(const std::string& text);
// Its first 40 bytes or so, never half a character.
[[nodiscard]] std::string beginning(const std::string& text);

}  // namespace tidemark
