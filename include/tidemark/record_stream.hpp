// DeepSpeed's own asynchronous offload holds memory by record_stream, so what it reserves depends
// on how far its copies lag behind. The two ends between which it lies.
#pragma once

#include <optional>

#include "tidemark/prediction.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Reserved peaks of the steady step. What is fetched comes from the copying stream's own segments.
struct LaggingCopies {
  Bytes drained = 0;     // each copy is done when somebody asks
  Bytes backlogged = 0;  // none is done before the step ends
  bool operator==(const LaggingCopies&) const = default;
};

// nullopt: the schedule copies nothing on a queue of its own, there is no caching allocator, or the
// device's memory does not suffice.
[[nodiscard]] std::optional<LaggingCopies> lagging_copies(const StepTrace& trace,
                                                          const Schedule& schedule,
                                                          const SimulateOptions& options);

}  // namespace tidemark
