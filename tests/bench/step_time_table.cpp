// Predicted against measured step time of every setting, both as ratios to the plain step's.
// A machine's speed drifts by more than the model errs, so each measured step stands between two
// plain ones: plain, step, plain, step, ..., plain.
//
//   step_time_table MODEL.pt2...
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "median.hpp"
#include "tidemark/device.hpp"
#include "tidemark/io.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/sweep.hpp"

namespace {

using namespace tidemark;
using bench::median;

constexpr int rounds = 5;

double seconds_of(Execution& execution, const Schedule& schedule) {
  const ExecuteOptions once{.repeat = 1, .warm_up = 0, .alloc_conf = {}};
  return *execution.execute(schedule, once).figures.step_seconds;
}

double measured_ratio(Execution& execution, const Schedule& plain, const Schedule& schedule) {
  (void)seconds_of(execution, schedule);
  std::vector<double> ratios;
  double before = seconds_of(execution, plain);
  for (int round = 0; round < rounds; ++round) {
    const double step = seconds_of(execution, schedule);
    const double after = seconds_of(execution, plain);
    ratios.push_back(2 * step / (before + after));
    before = after;
  }
  return median(ratios);
}

double predicted_seconds(const StepTrace& trace, const Schedule& schedule) {
  return *simulate(trace, schedule).figures.step_seconds;
}

void print_table(Device& device, const std::string& path) {
  const Program program = read_program(path);
  const RecordedStep step = device.record(program, {.timing_replays = rounds});
  const auto execution = device.prepare(step.trace, &program);
  const Schedule plain = plain_schedule(step.trace);
  const std::vector<BlockRun> runs = find_blocks(step.trace);
  std::printf("%s\n%-30s %10s %10s %8s\n", path.c_str(), "setting", "predicted", "measured",
              "error");
  std::vector<double> errors;
  const auto blocks = static_cast<std::int32_t>(count_blocks(runs));
  for (std::int32_t k = 1; k <= blocks; k += std::max(1, blocks / 3)) {
    for (const Method method : {Method::reentrant, Method::non_reentrant}) {
      for (const CpuCheckpointing offload : {CpuCheckpointing::off, CpuCheckpointing::blocking}) {
        Setting setting;
        setting.number_checkpoints = k;
        setting.method = method;
        setting.cpu_checkpointing = offload;
        const auto built = build_schedule(step.trace, runs, setting);
        if (!std::holds_alternative<BuiltSchedule>(built)) continue;
        const Schedule& schedule = std::get<BuiltSchedule>(built).schedule;
        const double predicted =
            predicted_seconds(step.trace, schedule) / predicted_seconds(step.trace, plain);
        const double measured = measured_ratio(*execution, plain, schedule);
        errors.push_back(100 * (predicted / measured - 1));
        std::printf("%-30s %10.3f %10.3f %+6.1f %%\n", describe(setting).c_str(), predicted,
                    measured, errors.back());
      }
    }
  }
  for (double& error : errors) error = std::abs(error);
  std::printf("median error %.1f %%, largest %.1f %%\n\n", median(errors),
              *std::max_element(errors.begin(), errors.end()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: step_time_table MODEL.pt2...\n");
    return 2;
  }
  const auto device = make_device("cpu");
  for (int i = 1; i < argc; ++i) print_table(*device, argv[i]);
  return 0;
}
