// A sweep that was read is written, read again, and gets its recommendation.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] {
    Sweep sweep = parse_sweep("input", text);
    fuzz::require(parse_sweep("input", format_sweep(sweep)) == sweep);
    recommend(sweep);
  });
  return 0;
}
