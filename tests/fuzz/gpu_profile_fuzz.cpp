// A profile of the user'\''s own GPU that was read is written and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] {
    const GpuProfile profile = parse_gpu_profile("input", text);
    fuzz::require(parse_gpu_profile("input", format_gpu_profile(profile)) == profile);
  });
  return 0;
}
