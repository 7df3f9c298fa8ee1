// A sweep in memory with everything that a folder would hold: predicted and "measured" alike.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/export.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark::test {

class KeptSweep final : public ReportSource {
 public:
  KeptSweep(const StepTrace& trace, const SweepAxes& axes, std::optional<Bytes> budget = {})
      : trace_(trace) {
    const auto runs = find_blocks(trace);
    sweep_.fingerprint = fingerprint(trace);
    sweep_.device = trace.device;
    sweep_.budget_bytes = budget;
    for (const Setting& setting : expand(axes, runs)) add(runs, setting);
    recommend(sweep_);
  }

  [[nodiscard]] const Sweep& sweep() const override { return sweep_; }
  [[nodiscard]] std::optional<std::size_t> row() const override {
    if (chosen) return chosen;
    return SweepOnly(sweep_).row();
  }
  [[nodiscard]] const StepTrace* trace() const override { return &trace_; }
  [[nodiscard]] const RowDetail* detail(std::size_t row) const override {
    return &details_.at(row);
  }
  [[nodiscard]] const Config* config() const override { return nullptr; }

  [[nodiscard]] Sweep& editable() { return sweep_; }
  std::optional<std::size_t> chosen;

 private:
  void add(const std::vector<BlockRun>& runs, const Setting& setting) {
    RowDetail detail;
    detail.fingerprint = sweep_.fingerprint;
    detail.row.setting = setting;
    auto built = build_schedule(trace_, runs, setting);
    if (const auto* invalid = std::get_if<InvalidSetting>(&built)) {
      detail.row.status = Status::invalid;
      detail.row.notes = {invalid->reason};
    } else {
      detail.schedule = std::move(std::get<BuiltSchedule>(built).schedule);
      Prediction prediction = simulate(trace_, detail.schedule);
      detail.row.predicted = prediction.figures;
      detail.row.measured =
          MeasuredFigures{.figures = prediction.figures, .step_seconds_noise = {}};
      detail.row.gradients = GradientVerdict::equal;
      detail.predicted = prediction.timeline;
      detail.measured = std::move(prediction.timeline);
    }
    sweep_.rows.push_back(detail.row);
    details_.push_back(std::move(detail));
  }

  const StepTrace& trace_;
  Sweep sweep_;
  std::vector<RowDetail> details_;
};

}  // namespace tidemark::test
