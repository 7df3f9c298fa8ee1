#include "open_step.hpp"

#include <ostream>
#include <string>
#include <utility>
#include <variant>

#include "tidemark/errors.hpp"
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

// That a saved step is not taken for one of another device.
void refuse_other_device(const TraceDevice& recorded, const RecordRequest& request) {
  const std::string& asked = request.device;
  if (asked == "auto" || recorded.kind == DeviceKind::unknown) return;
  const std::string kind(asked, 0, asked.find(':'));
  // Which card a description in a file is of, its reader tells once it runs.
  if (kind == name(recorded.kind) &&
      (recorded.kind != DeviceKind::phantom || asked == "phantom:" + recorded.name ||
       asked.starts_with("phantom:custom:"))) {
    return;
  }
  const std::string where =
      recorded.kind == DeviceKind::phantom ? recorded.name : std::string(name(recorded.kind));
  throw InputError(request.path, "device",
                   "was recorded on " + where + " and is a step of that device only; record the " +
                       "model again with --device " + asked + ", or leave --device out");
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
    refuse_other_device(step.trace.device, options.record);
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
