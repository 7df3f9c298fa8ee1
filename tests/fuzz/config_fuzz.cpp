// The DeepSpeed configuration reader and editor: any bytes are read or refused with an InputError;
// nothing else.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    const tidemark::Config config = tidemark::parse_config("f.json", bytes);
    tidemark::ActivationCheckpointing wanted;
    wanted.number_checkpoints = 3;
    (void)tidemark::with_block(config, wanted);
  } catch (const tidemark::InputError&) {
  }
  return 0;
}
