// A schedule's allocations, fed to the models of PyTorch's allocators.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tidemark/prediction.hpp"

namespace tidemark {

struct AllocatorLevels {
  Bytes allocated_peak = 0;  // of the steady step, as the next two
  Bytes reserved_peak = 0;
  std::vector<Bytes> allocated;  // the highest level during each step; empty when out of memory
  std::vector<Bytes> reserved;
  Bytes first_reserved_peak = 0;
  std::optional<std::string> out_of_memory;
};

// From an empty cache: the static storages in the order of the trace, a first step, everything that
// it left is freed, the steady step. nullopt: the device has no such allocator, or an operator does
// not say what it allocates.
[[nodiscard]] std::optional<AllocatorLevels> replay_allocator(const StepTrace& trace,
                                                              const Schedule& schedule,
                                                              const SimulateOptions& options);

// What the pinned pool takes for the instances in pinned host memory. nullopt: not a GPU's step.
[[nodiscard]] std::optional<Bytes> replay_pinned_pool(const StepTrace& trace,
                                                      const Schedule& schedule);

}  // namespace tidemark
