// Times of an execution on a GPU: from CUPTI's records, or from events where CUPTI has none.
#pragma once

#include <memory>
#include <string>

#include "backend.hpp"
#include "cuda_queues.hpp"
#include "cupti_session.hpp"

namespace tidemark {

// Recompute time is kernel time; an operator lasts from its first activity on the GPU to that of
// the next, so that launch gaps belong to it.
[[nodiscard]] std::unique_ptr<StepTimer> make_cupti_timer(CuptiSession& session, std::size_t steps);

// `copies`: those of the side streams, as CudaQueues times them; `reason`: why it is not CUPTI.
[[nodiscard]] std::unique_ptr<StepTimer> make_event_timer(const TimedCopies& copies,
                                                          std::string reason, std::size_t steps);

// A phantom takes no time that would mean anything.
[[nodiscard]] std::unique_ptr<StepTimer> make_no_timer();

// When each step began, from the activities of those that launched any: a step without begins with
// the next that has one. One entry more than steps: the end.
[[nodiscard]] std::vector<Nanoseconds> begins_of(const std::vector<StepActivity>& steps);

}  // namespace tidemark
