// The loop of a sweep: settings in, rows out, each on disk as soon as it is there.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/device.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct SweepRequest {
  const StepTrace& trace;
  // The same step with another machine's times, which then serve for predictions; nullptr: its own.
  const StepTrace* timed = nullptr;
  std::string time_model;  // whose they are
  std::vector<BlockRun> runs;
  std::vector<Setting> settings;
  // Positions in `settings`: the config's own one, and those that were asked for one by one.
  std::optional<std::size_t> yours;
  bool lists_every_invalid = false;  // otherwise one row stands for all with the same reason
  BuildOptions build;
  ExecuteOptions execute;
  std::optional<Bytes> budget_bytes;
  bool is_default_budget = false;  // the GPU's memory, as nothing else was asked for
  PeakLimit limit = PeakLimit::automatic;
  // Whose plan for the budget becomes the last row; nullptr: nobody's.
  const Planner* planner = nullptr;
  Bytes host_budget_bytes = 0;  // for what it offloads
  Provenance provenance;
  std::vector<std::string> notes;
  std::optional<std::string> folder;  // absent: nothing is written
  bool resumes = false;
};

struct SweepProgress {
  std::size_t done = 0;
  std::size_t total = 0;
  std::string setting;
};

// Throws InputError where a sweep cannot be written to that folder, or another one lies there.
void check_sweep_folder(const std::string& folder, bool resumes);

// `execution` nullptr: predictions only. `interrupted` is asked after each row; a sweep that it
// ends early keeps its rows. Throws InputError where `resumes` meets another trace's folder.
[[nodiscard]] Sweep run_sweep(const SweepRequest& request, Execution* execution,
                              const std::function<void(const SweepProgress&)>& report_progress,
                              const std::atomic<bool>& interrupted);

// "aten::addmm in blocks.3.fc (backward)"
[[nodiscard]] std::string describe_op(const StepTrace& trace, std::optional<OpId> id);

}  // namespace tidemark
