// The DeepSpeed configuration's reader and editor.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] {
    const Config config = parse_config("input", text);
    ActivationCheckpointing wanted;
    wanted.number_checkpoints = 3;
    (void)with_block(config, wanted);
  });
  return 0;
}
