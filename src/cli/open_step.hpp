// A step ready to be worked on: recorded now from an exported program, or read from a saved trace,
// and, where asked for, made ready for execution.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "step_source.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct OpenStepOptions {
  RecordRequest record;
  std::optional<std::string> values_from;  // the .pt2 whose values a saved trace executes with
  bool executes = true;
};

struct OpenedStep {
  StepTrace trace;
  std::unique_ptr<Program> program;
  std::unique_ptr<Device> device;
  std::unique_ptr<Execution> execution;  // nullptr: predictions only; notes say why
  std::vector<std::string> notes;
};

// `line`: the command line, for provenance.
[[nodiscard]] OpenedStep open_step(const OpenStepOptions& options, const Arguments& line,
                                   const Streams& streams);

}  // namespace tidemark
