#include "no_grad_forward.hpp"

#include <algorithm>
#include <cstdlib>

namespace tidemark {

namespace {

StepTrace record_no_grad(Backend& backend, EagerStep& step,
                         const std::vector<StaticTensor>& statics) {
  step.reset();
  StepRecorder recorder(backend, statics, [&] { return step.current_node(); });
  Interpreter::Result result = step.forward(Gradients::off);
  recorder.mark_loss(result.loss);
  result = {};
  return recorder.finish();
}

// The most that an operator holds besides its arguments.
Bytes call_bytes(const StepTrace& trace, const Op& op) {
  Bytes bytes = op.workspace_bytes;
  for (const StorageId id : op.creates) bytes += trace.storages[index(id)].bytes;
  return bytes;
}

std::string place_of(const Op& op) {
  return op.name + (op.module.empty() ? "" : " in " + op.module);
}

struct Differences {
  std::size_t operators = 0;
  Bytes largest = 0;
  const Op* first = nullptr;
};

}  // namespace

std::optional<std::string> describe_no_grad_forward(Backend& backend, EagerStep& step,
                                                    const std::vector<StaticTensor>& statics,
                                                    const StepTrace& recorded) {
  const StepTrace other = record_no_grad(backend, step, statics);
  step.reset();
  const std::string begin = "with gradients off, as the reentrant method first runs a segment, ";
  const std::string end = "; its rows are predicted and executed with the recorded operators";
  Differences differences;
  for (std::size_t o = 0; o < recorded.ops.size(); ++o) {
    const Op& op = recorded.ops[o];
    if (op.phase != Phase::forward) break;
    if (o >= other.ops.size()) return begin + "the forward ends before " + place_of(op) + end;
    if (other.ops[o].name != op.name) {
      return begin + other.ops[o].name + " runs in the place of " + place_of(op) + end;
    }
    const Bytes difference = std::abs(call_bytes(recorded, op) - call_bytes(other, other.ops[o]));
    if (difference == 0) continue;
    if (differences.operators++ == 0) differences.first = &op;
    differences.largest = std::max(differences.largest, difference);
  }
  if (differences.operators == 0) return std::nullopt;
  return begin + std::to_string(differences.operators) + " operators take other memory (first " +
         place_of(*differences.first) + "), up to " + std::to_string(differences.largest) +
         " bytes" + end;
}

}  // namespace tidemark
