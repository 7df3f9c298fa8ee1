// Records one training step of a program on a device and replays it: what every device does.
#pragma once

#include "backend.hpp"
#include "executor.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

// `device` describes where the step runs; it stands in the trace. See Device::record.
[[nodiscard]] RecordedStep record_step(Backend& backend, const TraceDevice& device,
                                       const Program& program, const RecordOptions& options);

// See Device::prepare; the trace was recorded on this kind of device.
[[nodiscard]] std::unique_ptr<Execution> prepare_step(Backend& backend, const StepTrace& trace,
                                                      const Program* values);

}  // namespace tidemark
