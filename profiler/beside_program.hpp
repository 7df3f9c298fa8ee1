// Where the tool's own libraries lie.
#pragma once

#include <filesystem>
#include <string>

namespace tidemark {

// Of this name beside the program, as the build makes it, or in ../lib/tidemark, where pip puts it.
// It need not exist.
[[nodiscard]] std::filesystem::path beside_program(const std::string& name);

}  // namespace tidemark
