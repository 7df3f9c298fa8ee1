// A step trace that was read is written and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] {
    const std::string written = format_step_trace(parse_step_trace("input", text));
    fuzz::require(format_step_trace(parse_step_trace("input", written)) == written);
  });
  return 0;
}
