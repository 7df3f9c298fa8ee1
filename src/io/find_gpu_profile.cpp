#include "tidemark/gpu_profile.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

GpuProfile find_gpu_profile(const std::string& name) {
  const std::string custom = "custom:";
  if (!name.starts_with(custom)) return gpu_profile(name);
  const std::string path = name.substr(custom.size());
  return parse_gpu_profile(path, read_file(path));
}

}  // namespace tidemark
