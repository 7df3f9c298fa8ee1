// A row with its schedule and timelines that was read is written and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "refusal.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  const std::string text(data, data + size);
  fuzz::use_or_refuse([&] {
    const RowDetail row = parse_row_detail("input", text);
    fuzz::require(parse_row_detail("input", format_row_detail(row)) == row);
  });
  return 0;
}
