// Any bytes are a sweep, are a row, or are refused in one sentence; every report of a sweep that
// was read can be written.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace {

using namespace tidemark;

template <typename Use>
void require_success_or_one_sentence(Use use) {
  try {
    use();
  } catch (const InputError& error) {
    const std::string message = error.what();
    if (!message.starts_with("input: ") || message.find('\n') != std::string::npos) std::abort();
  }
}

void use_sweep(const std::string& text) {
  Sweep sweep = parse_sweep("input", text);
  if (parse_sweep("input", format_sweep(sweep)) != sweep) std::abort();
  recommend(sweep);
}

void use_row(const std::string& text) {
  const RowDetail detail = parse_row_detail("input", text);
  if (parse_row_detail("input", format_row_detail(detail)) != detail) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  require_success_or_one_sentence([&] { use_sweep(text); });
  require_success_or_one_sentence([&] { use_row(text); });
  return 0;
}
