// DeepSpeed's own asynchronous offload holds memory by record_stream, so what it takes depends
// on how far its copies lag behind. The two ends between which it lies.
#pragma once

#include <optional>

#include "tidemark/prediction.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Peaks of the steady step. What is fetched comes from the copying stream's own segments. In use is
// also what nobody holds any more but a copy may still read or write: torch's active bytes.
struct LagPeaks {
  Bytes in_use = 0;
  Bytes reserved = 0;
  bool operator==(const LagPeaks&) const = default;
};

struct LaggingCopies {
  LagPeaks drained;     // each copy is done when somebody asks
  LagPeaks backlogged;  // none is done before the step ends
  bool operator==(const LaggingCopies&) const = default;
};

// nullopt: the schedule copies nothing on a queue of its own, there is no caching allocator, or the
// device's memory does not suffice.
[[nodiscard]] std::optional<LaggingCopies> lagging_copies(const StepTrace& trace,
                                                          const Schedule& schedule,
                                                          const SimulateOptions& options);

}  // namespace tidemark
