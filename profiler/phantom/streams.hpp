// Streams and events. All work is done as soon as it is asked for; what is left to say is when a
// program is told so.
#pragma once

namespace tidemark::phantom {

// Everything asked for so far counts as done.
void synchronize_device();

}  // namespace tidemark::phantom
