// An execution that follows a script: it measures what the simulator predicts, unless told to
// differ, to run out of memory or to fail at a certain row.
#pragma once

#include <optional>

#include "tidemark/device.hpp"
#include "tidemark/errors.hpp"

namespace tidemark::test {

struct Script {
  std::optional<int> out_of_memory_at;  // the nth execution, from 0
  std::optional<int> fails_at;
  std::optional<int> is_lost_at;
  Bytes differs_by = 0;
};

class FakeExecution final : public Execution {
 public:
  FakeExecution(const StepTrace& trace, Script script) : trace_(trace), script_(script) {}

  Measurement execute(const Schedule& schedule, const ExecuteOptions&) override {
    const int n = executions++;
    if (script_.fails_at == n) throw DeviceError("an operator failed");
    if (script_.is_lost_at == n) throw DeviceLost("the card fell off the bus");
    const Prediction prediction = simulate(trace_, schedule);
    Measurement measurement{.figures = prediction.figures, .timeline = prediction.timeline};
    measurement.figures.live_peak_bytes += script_.differs_by;
    measurement.gradients = GradientVerdict::equal;
    if (script_.out_of_memory_at == n) {
      measurement.out_of_memory = "1 GiB was asked for, 10 MiB were free";
      measurement.gradients = GradientVerdict::not_run;
    }
    return measurement;
  }

  int executions = 0;

 private:
  const StepTrace& trace_;
  Script script_;
};

}  // namespace tidemark::test
