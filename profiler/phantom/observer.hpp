// Starts the part that follows the caching allocator's events. It is a library of its own, linked
// against torch, and loaded once torch's CUDA libraries are there.
#pragma once

namespace tidemark::phantom {

// Cheap after the first call that found torch. Safe under the allocator's lock.
void start_observer();

}  // namespace tidemark::phantom
