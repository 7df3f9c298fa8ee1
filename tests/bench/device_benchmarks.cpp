// The unscheduled replay against the autograd step that it was recorded from, and what recording
// costs, as ratios of medians of one run.
//
//   device_benchmarks MODEL.pt2
#include <algorithm>
#include <cstdio>
#include <vector>

#include "median.hpp"
#include "tidemark/device.hpp"
#include "tidemark/io.hpp"
#include "tidemark/setting.hpp"

using tidemark::bench::median;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: device_benchmarks MODEL.pt2\n");
    return 2;
  }
  const tidemark::Program program = tidemark::read_program(argv[1]);
  const auto device = tidemark::make_device("cpu");
  std::vector<double> replay_ratios;
  std::vector<double> recording_ratios;
  for (int round = 0; round < 7; ++round) {
    const tidemark::RecordedStep step = device->record(program, {});
    const auto execution = device->prepare(step.trace, &program);
    const auto measured =
        execution->execute(tidemark::plain_schedule(step.trace), {.repeat = 3, .warm_up = 1});
    replay_ratios.push_back(*measured.figures.step_seconds / step.eager_seconds);
    recording_ratios.push_back(step.recording_seconds / step.eager_seconds);
  }
  std::printf("replay / autograd step     %.3f\n", median(replay_ratios));
  std::printf("recorded / unrecorded step %.3f\n", median(recording_ratios));
  return 0;
}
