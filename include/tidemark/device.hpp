// The Device seam: where a step runs. Implementations live in profiler/.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/program.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/time_model.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

enum class Optimizer : std::uint8_t { none, sgd, adamw };
// How torch.optim groups its operators; `automatic`: as torch chooses on that device.
enum class OptimizerForm : std::uint8_t { automatic, loop, foreach, fused };

struct RecordOptions {
  std::int64_t seed = 0;  // torch.manual_seed right before the recorded step
  // Which output is the loss: absent means the program's only scalar floating output; "sum" sums
  // the first floating output; otherwise an output's name.
  std::optional<std::string> loss;
  Optimizer optimizer = Optimizer::none;
  OptimizerForm optimizer_form = OptimizerForm::automatic;
  bool accumulate_gradients = false;  // gradients exist before the step, as in a second micro-batch
  std::int32_t timing_replays = 3;    // durations are medians over so many unscheduled replays
};

struct GradientNorm {
  std::string parameter;  // a tied parameter once, under its first name
  double norm = 0;
  // Sum over its bytes (row-major) of position (from 1) times byte, modulo 2^64: two gradients with
  // one checksum agree, to all intents, bit for bit.
  std::uint64_t checksum = 0;
};

struct RecordedStep {
  StepTrace trace;
  double loss = 0;
  std::vector<GradientNorm> gradient_norms;
  // Largest live bytes of the autograd step itself, static memory included: what the trace's own
  // replay must reach.
  Bytes eager_live_peak_bytes = 0;
  // Wall time of the autograd step with recording off (median), and of the recorded one.
  double eager_seconds = 0;
  double recording_seconds = 0;
  // Whether the unscheduled replay's gradients are bit-equal to autograd's.
  GradientVerdict replay = GradientVerdict::not_run;
  std::vector<std::string> notes;
};

struct ExecuteOptions {
  std::int32_t repeat = 1;   // measured executions; medians are reported
  std::int32_t warm_up = 1;  // executions before them
  std::string alloc_conf;    // the setting's; matters to devices with a caching allocator only
};

// The device does not answer any more: nothing else can run there.
struct DeviceLost : DeviceError {
  using DeviceError::DeviceError;
};

// A step made ready for execution: its static values exist on the device.
class Execution {
 public:
  Execution() = default;
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;
  virtual ~Execution() = default;

  // Executes a valid schedule of the prepared trace. Gradients are compared, bit for bit, with
  // those of an unscheduled replay in this process. Static values are as before afterwards.
  // Throws DeviceError where an operator fails, DeviceLost where all others will; out of memory is
  // a value.
  [[nodiscard]] virtual Measurement execute(const Schedule& schedule,
                                            const ExecuteOptions& options) = 0;
};

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] virtual TraceDevice description() const = 0;
  // One warm step, then the recorded one. Throws InputError naming node, target, source line and
  // remedy where the program holds what cannot run.
  [[nodiscard]] virtual RecordedStep record(const Program& program,
                                            const RecordOptions& options) = 0;
  // `values`: the program whose parameters and inputs serve; without it they are made from the
  // trace's seed. Refuses traces of another kind of device or number of threads (InputError).
  [[nodiscard]] virtual std::unique_ptr<Execution> prepare(const StepTrace& trace,
                                                           const Program* values) = 0;
  // Measures what the device achieves: seconds on a GPU, under a minute on a processor. Throws
  // DeviceError where kernels do nothing.
  [[nodiscard]] virtual MachineRates calibrate() = 0;
};

// "cpu", "cuda:0", "phantom:h200", "auto". Throws UsageError with the accepted names, or
// DeviceError where the device does not answer. A build without Torch has no device at all.
// `threads` of the CPU's kernels; 0 leaves the machine's own number.
[[nodiscard]] std::unique_ptr<Device> make_device(const std::string& name,
                                                  std::int32_t threads = 0);

}  // namespace tidemark
