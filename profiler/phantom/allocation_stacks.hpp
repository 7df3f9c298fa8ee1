// The stacks of a memory snapshot: the operators and autograd nodes that ran, and above them the
// lines of Python that called them. Autograd's own threads run no Python.
#pragma once

#include <memory>

namespace c10 {
struct GatheredContext;
}

namespace tidemark::phantom {

// From here on stacks know operators, and `leave`, a function of the library at `library`, is
// called when Python ends, while its code objects still have names. Without Python nothing is.
void begin_stacks(const char* library, const char* leave);

// Of the calling thread.
[[nodiscard]] std::shared_ptr<c10::GatheredContext> gather_stack();

}  // namespace tidemark::phantom
