#include "beside_program.hpp"

namespace tidemark {

std::filesystem::path beside_program(const std::string& name) {
  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::filesystem::path installed = folder.parent_path() / "lib/tidemark" / name;
  return std::filesystem::exists(installed) ? installed : folder / name;
}

}  // namespace tidemark
