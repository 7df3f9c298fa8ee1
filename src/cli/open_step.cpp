#include "open_step.hpp"

#include <ostream>
#include <utility>
#include <variant>

#include "tidemark/io.hpp"

namespace tidemark {

namespace {

OpenedStep record_now(const OpenStepOptions& options, Program program, const Arguments& line,
                      const Streams& streams) {
  auto device = make_device(options.record.device, options.record.threads);
  streams.err << "recording a step of " << options.record.path << '\n';
  RecordedProgram recorded =
      record_program(std::move(device), options.record, std::move(program), line);
  OpenedStep step{.trace = std::move(recorded.step.trace),
                  .program = std::move(recorded.program),
                  .device = std::move(recorded.device),
                  .execution = nullptr,
                  .notes = std::move(recorded.step.notes)};
  if (recorded.step.replay == GradientVerdict::differ) {
    step.notes.emplace_back("the recorded step's replay does not give autograd's gradients");
  }
  return step;
}

// A step executes only on the kind of device that recorded it; of several GPUs any will do.
std::string executing_device(const TraceDevice& recorded, const std::string& asked) {
  switch (recorded.kind) {
    case DeviceKind::cpu:
      return "cpu";
    case DeviceKind::phantom:
      return asked.starts_with("phantom:") ? asked : "phantom:" + recorded.name;
    case DeviceKind::cuda:
      return asked.starts_with("cuda") ? asked : "cuda";
    case DeviceKind::unknown:
      break;
  }
  return asked;
}

}  // namespace

OpenedStep open_step(const OpenStepOptions& options, const Arguments& line,
                     const Streams& streams) {
  ModelInput input = read_model(options.record.path);
  OpenedStep step;
  if (auto* program = std::get_if<Program>(&input)) {
    step = record_now(options, std::move(*program), line, streams);
  } else {
    step.trace = std::move(std::get<StepTrace>(input));
    if (options.values_from)
      step.program = std::make_unique<Program>(read_program(*options.values_from));
    if (!is_executable(step.trace)) {
      step.notes.emplace_back("the trace carries no calls: predicted, not executed");
      return step;
    }
  }
  if (!options.executes) return step;
  if (!step.device) {
    const std::int32_t threads =
        options.record.threads > 0 ? options.record.threads : step.trace.device.threads;
    step.device = make_device(executing_device(step.trace.device, options.record.device), threads);
  }
  step.execution = step.device->prepare(step.trace, step.program.get());
  return step;
}

}  // namespace tidemark
