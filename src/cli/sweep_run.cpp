#include "sweep_run.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <utility>

#include "plan_run.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "tidemark/record_stream.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace fs = std::filesystem;

// As limiting_peak() has it: live where there is no allocator.
Limit planned_limit(PeakLimit limit, const StepTrace& trace) {
  const Limit usual = usual_limit(plain_figures(trace));
  if (limit == PeakLimit::live || usual == Limit::live) return Limit::live;
  return limit == PeakLimit::allocated ? Limit::allocated : usual;
}

// For planners, which know no caller who holds the outputs to the end of the step.
void keep_outputs(StepTrace& trace) {
  const std::vector<bool> is_static = static_storages(trace);
  for (const StorageId id : trace.outputs) {
    const bool is_kept = std::find(trace.keep.begin(), trace.keep.end(), id) != trace.keep.end();
    if (!is_static[index(id)] && !is_kept) trace.keep.push_back(id);
  }
}

class SweepRunner {
 public:
  SweepRunner(const SweepRequest& request, Execution* execution)
      : request_(request), execution_(execution) {
    sweep_.provenance = request.provenance;
    sweep_.device = request.trace.device;
    sweep_.fingerprint = fingerprint(request.trace);
    sweep_.budget_bytes = request.budget_bytes;
    sweep_.is_default_budget = request.is_default_budget;
    sweep_.limit = request.limit;
    sweep_.time_model = request.time_model;
    notes_ = request.notes;
  }

  Sweep run(const std::function<void(const SweepProgress&)>& report_progress,
            const std::atomic<bool>& interrupted) {
    prepare_folder();
    const std::size_t total = request_.settings.size() + (request_.planner != nullptr ? 1 : 0);
    for (std::size_t i = 0; i < request_.settings.size(); ++i) {
      report_progress({i, total, describe(request_.settings[i])});
      add_row(i);
      if (is_device_lost_) {
        note_loss(i);
        break;
      }
      if (interrupted && i + 1 < total) {
        notes_.push_back("interrupted after " + std::to_string(i + 1) + " of " +
                         std::to_string(request_.settings.size()) + " settings");
        break;
      }
    }
    if (request_.planner != nullptr && !is_device_lost_ && !interrupted) {
      report_progress({total - 1, total, "plan by " + std::string(request_.planner->name())});
      add_plan_row(interrupted);
    }
    report_progress({total, total, ""});
    note_shared_reasons();
    finish();
    return std::move(sweep_);
  }

 private:
  // Of the row that comes next: files are numbered as the rows of sweep.json.
  [[nodiscard]] fs::path row_path() const {
    return fs::path(*request_.folder) / "rows" / (std::to_string(sweep_.rows.size()) + ".json.gz");
  }

  [[nodiscard]] fs::path plan_path() const { return fs::path(*request_.folder) / "plan.json"; }

  void prepare_folder() const {
    if (!request_.folder) return;
    check_sweep_folder(*request_.folder, request_.resumes);
    const fs::path summary = fs::path(*request_.folder) / "sweep.json";
    if (fs::exists(summary) && read_sweep(summary.string()).fingerprint != sweep_.fingerprint) {
      throw InputError(*request_.folder, "",
                       "holds the sweep of another step; name another folder with -o");
    }
    make_folder((fs::path(*request_.folder) / "rows").string());
    std::error_code error;
    if (request_.planner != nullptr) fs::remove(plan_path(), error);  // of an earlier budget
  }

  // A row of an earlier run of the same sweep. A damaged file is run again.
  [[nodiscard]] std::optional<RowDetail> earlier(const SweepRow& wanted) const {
    if (!request_.folder || !request_.resumes || !fs::exists(row_path())) return std::nullopt;
    try {
      RowDetail detail = read_row_detail(row_path().string());
      const bool is_same = detail.fingerprint == sweep_.fingerprint &&
                           detail.row.planner == wanted.planner &&
                           detail.row.setting == wanted.setting &&
                           (detail.measured.has_value() || execution_ == nullptr ||
                            detail.row.status == Status::invalid);
      if (is_same) return detail;
    } catch (const InputError&) {
    }
    return std::nullopt;
  }

  void add_row(std::size_t i) {
    SweepRow wanted;
    wanted.setting = request_.settings[i];
    RowDetail detail;
    if (auto found = earlier(wanted)) {
      detail = std::move(*found);
    } else {
      detail = make_row(std::move(wanted));
    }
    detail.row.yours = request_.yours == i;
    if (is_told_already(i, detail.row)) return;
    keep(std::move(detail));
  }

  void keep(RowDetail detail) {
    if (request_.folder) write_file(row_path().string(), format_row_detail(detail));
    sweep_.rows.push_back(std::move(detail.row));
    finish();
  }

  // One row stands for all settings that are refused for the same reason.
  [[nodiscard]] bool is_told_already(std::size_t i, const SweepRow& row) {
    if (row.status != Status::invalid || row.notes.empty()) return false;
    const auto [found, is_new] =
        refused_.emplace(row.notes.front(), Refused{sweep_.rows.size(), 1});
    if (is_new) return false;
    ++found->second.settings;
    return !request_.lists_every_invalid && request_.yours != i;
  }

  [[nodiscard]] PlanRequest plan_request(const StepTrace& step,
                                         const std::string& alloc_conf) const;
  void add_plan_row(const std::atomic<bool>& interrupted);
  void note_no_plan(const Infeasible& infeasible);
  [[nodiscard]] RowDetail make_row(SweepRow row);
  void predict_and_execute(Schedule schedule, RowDetail& detail);
  void execute_row(const Schedule& schedule, RowDetail& detail);
  void note_loss(std::size_t i);
  void note_lagging_copies(const Schedule& schedule, SweepRow& row) const;
  void note_shared_reasons();
  void finish();

  struct Refused {
    std::size_t row = 0;
    std::size_t settings = 0;
  };
  const SweepRequest& request_;
  Execution* execution_;
  Sweep sweep_;
  std::vector<std::string> notes_;
  std::map<std::string, Refused> refused_;
  bool is_device_lost_ = false;
};

RowDetail SweepRunner::make_row(SweepRow row) {
  RowDetail detail;
  detail.fingerprint = sweep_.fingerprint;
  detail.row = std::move(row);
  const Setting& setting = detail.row.setting;
  auto built = build_schedule(request_.trace, request_.runs, setting, request_.build);
  if (const auto* invalid = std::get_if<InvalidSetting>(&built)) {
    detail.row.status = Status::invalid;
    detail.row.notes.push_back(invalid->reason);
    return detail;
  }
  auto& valid = std::get<BuiltSchedule>(built);
  const std::vector<Violation> violations = validate(request_.trace, valid.schedule);
  if (!violations.empty()) {
    throw InternalError("the schedule of " + describe(setting) + " breaks a rule at step " +
                        std::to_string(violations.front().step) + ": " +
                        violations.front().message);
  }
  detail.row.notes = std::move(valid.notes);
  predict_and_execute(std::move(valid.schedule), detail);
  return detail;
}

void SweepRunner::predict_and_execute(Schedule schedule, RowDetail& detail) {
  Prediction prediction =
      simulate(request_.timed != nullptr ? *request_.timed : request_.trace, schedule,
               simulation_under(request_.trace, detail.row.setting.alloc_conf));
  detail.row.predicted = prediction.figures;
  detail.row.peak_operator = describe_op(request_.trace, prediction.figures.peak_op);
  detail.predicted = std::move(prediction.timeline);
  detail.schedule = std::move(schedule);
  note_lagging_copies(detail.schedule, detail.row);
  if (prediction.out_of_memory) {
    detail.row.status = Status::out_of_memory;
    detail.row.notes.insert(detail.row.notes.begin(), *prediction.out_of_memory);
  }
  if (execution_ != nullptr) execute_row(detail.schedule, detail);
}

PlanRequest SweepRunner::plan_request(const StepTrace& step, const std::string& alloc_conf) const {
  PlanRequest request;
  request.budget_bytes = request_.budget_bytes;
  request.host_budget_bytes = request_.host_budget_bytes;
  request.limit = planned_limit(request_.limit, step);
  request.simulation = simulation_under(step, alloc_conf);
  request.runs = request_.runs;
  return request;
}

// A plan is made anew, under the first of the allocator settings; an earlier run's row serves where
// it is of the same schedule.
void SweepRunner::add_plan_row(const std::atomic<bool>& interrupted) {
  StepTrace step = request_.timed != nullptr ? *request_.timed : request_.trace;
  if (request_.build.hold_outputs) keep_outputs(step);
  RowDetail detail;
  detail.fingerprint = sweep_.fingerprint;
  if (!request_.settings.empty()) {
    detail.row.setting.alloc_conf = request_.settings.front().alloc_conf;
  }
  const std::string alloc_conf = detail.row.setting.alloc_conf;
  PlanRequest request = plan_request(step, alloc_conf);
  request.should_stop = [&interrupted] { return interrupted.load(); };
  const PlanOutcome outcome = run_planner(*request_.planner, step, request);
  if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) return note_no_plan(*infeasible);
  const auto& plan = std::get<Plan>(outcome);
  detail.row.planner = plan.planner;
  if (auto found = earlier(detail.row); found && found->schedule == plan.schedule) {
    detail = std::move(*found);
  } else {
    detail.row.notes = plan.notes;
    predict_and_execute(plan.schedule, detail);
  }
  if (request_.folder) {
    PlanFile file = to_plan_file(step, request, alloc_conf, plan);
    file.fingerprint = sweep_.fingerprint;
    file.measured = detail.row.measured;
    file.gradients = detail.row.gradients;
    write_file(plan_path().string(), format_plan(file));
  }
  keep(std::move(detail));
}

void SweepRunner::note_no_plan(const Infeasible& infeasible) {
  std::string note = "no plan by " + std::string(request_.planner->name()) + " fits " +
                     format_bytes(*request_.budget_bytes);
  if (infeasible.smallest_reached) {
    note += "; the smallest needs " + format_bytes(infeasible.smallest_reached->bytes);
  }
  notes_.push_back(note + "; no schedule of this step needs less than " +
                   format_bytes(infeasible.lower_bound.bytes));
}

void SweepRunner::execute_row(const Schedule& schedule, RowDetail& detail) {
  SweepRow& row = detail.row;
  try {
    ExecuteOptions options = request_.execute;
    options.alloc_conf = row.setting.alloc_conf;
    Measurement measurement = execution_->execute(schedule, options);
    row.gradients = measurement.gradients;
    row.notes.insert(row.notes.end(), measurement.notes.begin(), measurement.notes.end());
    row.status = measurement.out_of_memory ? Status::out_of_memory : Status::ok;
    if (measurement.out_of_memory) {
      row.notes.insert(row.notes.begin(), *measurement.out_of_memory);
    }
    row.measured = MeasuredFigures{.figures = measurement.figures,
                                   .step_seconds_noise = measurement.step_seconds_noise};
    detail.measured = std::move(measurement.timeline);
  } catch (const DeviceLost& error) {
    is_device_lost_ = true;
    row.status = Status::failed;
    row.notes.insert(row.notes.begin(), error.what());
  } catch (const DeviceError& error) {
    row.status = Status::failed;
    row.notes.insert(row.notes.begin(), error.what());
  }
}

// The row's own figures are of copies that the schedule waits for. In use is the same for every way
// to write the model; reserved is not, since blocks lie where the earlier ones left room.
void SweepRunner::note_lagging_copies(const Schedule& schedule, SweepRow& row) const {
  const auto lag = lagging_copies(request_.trace, schedule,
                                  simulation_under(request_.trace, row.setting.alloc_conf));
  if (!lag) return;
  const auto exact = [](Bytes bytes) {
    return format_bytes(bytes) + " (" + std::to_string(bytes) + " B)";
  };
  const auto peaks = [&](const LagPeaks& ends) {
    return exact(ends.in_use) + " in use and " + exact(ends.reserved) + " reserved ";
  };
  row.notes.push_back("DeepSpeed's own copies: " + peaks(lag->drained) +
                      (lag->drained == lag->backlogged
                           ? "however far they lag behind"
                           : "where each is done at once, " + peaks(lag->backlogged) +
                                 "where none is done before the step ends"));
  row.notes.emplace_back(
      "what is reserved then holds for code that lets go of a value after its last use, as the "
      "exported program does; names that Python code holds until it returns move blocks, which "
      "changes what is reserved, but never to less than is in use");
}

void SweepRunner::note_loss(std::size_t i) {
  notes_.push_back("the device was lost at setting " + describe(request_.settings[i]) + "; " +
                   std::to_string(request_.settings.size() - i - 1) +
                   " settings after it were not run" +
                   (request_.folder ? ", go on with the same command and --resume" : ""));
}

void SweepRunner::note_shared_reasons() {
  if (request_.lists_every_invalid) return;
  for (const auto& [reason, refused] : refused_) {
    if (refused.settings < 2) continue;
    sweep_.rows[refused.row].notes.push_back(std::to_string(refused.settings) +
                                             " settings are refused for this reason");
  }
}

void SweepRunner::finish() {
  sweep_.notes = notes_;
  if (execution_ != nullptr && sweep_.device.kind == DeviceKind::phantom) {
    sweep_.notes.emplace_back(
        "kernels do nothing on a phantom GPU: no gradients are compared and no times measured");
  }
  note_unanswered_calls(request_.trace, sweep_.notes);
  recommend(sweep_);
  if (!request_.folder) return;
  write_file((fs::path(*request_.folder) / "sweep.json").string(), format_sweep(sweep_));
}

}  // namespace

void check_sweep_folder(const std::string& folder, bool resumes) {
  if (!resumes && fs::exists(fs::path(folder) / "sweep.json")) {
    throw InputError(folder, "",
                     "already holds a sweep; go on with it by --resume, or name another folder");
  }
  check_folder(folder);
}

Sweep run_sweep(const SweepRequest& request, Execution* execution,
                const std::function<void(const SweepProgress&)>& report_progress,
                const std::atomic<bool>& interrupted) {
  return SweepRunner(request, execution).run(report_progress, interrupted);
}

std::string describe_op(const StepTrace& trace, std::optional<OpId> id) {
  if (!id) return "";
  static constexpr std::array<std::string_view, 3> phases{"forward", "backward", "optimizer"};
  const Op& op = trace.ops[index(*id)];
  return op.name + (op.module.empty() ? "" : " in " + op.module) + " (" +
         std::string(phases.at(static_cast<std::size_t>(op.phase))) + ")";
}

}  // namespace tidemark
