// The .pt2 reader: any bytes are read or refused with an InputError; nothing else.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    (void)tidemark::check_program(tidemark::parse_program("f.pt2", bytes));
  } catch (const tidemark::InputError&) {
  }
  return 0;
}
