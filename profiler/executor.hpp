// Executes schedules of one recorded step, operator by operator, with real memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backend.hpp"
#include "boxed_call.hpp"
#include "execution_memory.hpp"
#include "gradient_judge.hpp"
#include "tidemark/device.hpp"

namespace tidemark {

class StepExecution final : public Execution {
 public:
  // `fill` gives the static storages their values. The backend and the trace must outlive the
  // execution. Runs the step twice without a schedule: the reference that gradients are compared
  // with.
  StepExecution(Backend& backend, const StepTrace& trace, const FillStorage& fill);

  [[nodiscard]] Measurement execute(const Schedule& schedule,
                                    const ExecuteOptions& options) override;

  // What the unscheduled step computes.
  [[nodiscard]] const GradientJudge& judge() const { return judge_; }
  // Begin of an operator to begin of the next, in an unscheduled replay; by operator. Empty where
  // the device cannot tell.
  [[nodiscard]] std::vector<Nanoseconds> time_operators();

 private:
  struct Run;

  [[nodiscard]] KeptBytes run_once(const Schedule& schedule, Run& run);
  void perform(const Step& step, Run& run);
  void perform_run(const tidemark::Run& action, Cause cause, Run& run);
  void perform_copy(const Copy& copy, Run& run);
  void perform_wait(const Wait& wait, Run& run);
  void perform_gather(const Collective& collective, Run& run);
  void bind(const std::vector<StorageId>& storages, const std::vector<InstanceId>& instances,
            const ExecutionMemory& memory);
  [[nodiscard]] KeptBytes kept_bytes(ExecutionMemory& memory) const;

  void make_reference();
  [[nodiscard]] bool replay_plain();
  [[nodiscard]] GradientFinding doubt(GradientFinding finding, const KeptBytes& kept);
  void use_allocator_settings(const std::string& conf);
  [[nodiscard]] StepFigures figures_of(const Run& run);
  [[nodiscard]] bool answers();

  Backend& backend_;
  const StepTrace& trace_;
  std::vector<BoxedCall> calls_;
  std::map<OpId, BoxedCall> no_grad_calls_;  // of operators with such a form
  StaticMemory statics_;
  std::vector<const c10::Storage*> bound_;  // by storage; only while an operator runs
  std::vector<c10::Storage> made_;
  Schedule plain_;
  GradientJudge judge_;
  std::string alloc_conf_;  // what the static memory was allocated under
};

}  // namespace tidemark
