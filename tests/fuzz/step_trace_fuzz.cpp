// Any bytes are a step trace or are refused in one sentence; what is read is written and read
// again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tidemark;
  try {
    const StepTrace trace = parse_step_trace("input", std::string(data, data + size));
    const std::string text = format_step_trace(trace);
    if (format_step_trace(parse_step_trace("input", text)) != text) std::abort();
  } catch (const InputError& error) {
    const std::string message = error.what();
    if (!message.starts_with("input: ") || message.find('\n') != std::string::npos) std::abort();
  }
  return 0;
}
