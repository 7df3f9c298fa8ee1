// The .pt2 reader, and what `inspect` says of what was read.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] { (void)check_program(parse_program("input", text)); });
  return 0;
}
