// A sweep's folder as a source for formats and targets.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

namespace fs = std::filesystem;

void check_row(std::size_t row, const std::string& path, const Sweep& sweep) {
  if (row < sweep.rows.size()) return;
  throw UsageError("row " + std::to_string(row) + " is asked for, but " + path + " has " +
                   std::to_string(sweep.rows.size()) + ", counted from 0");
}

class SweepFolder final : public ReportSource {
 public:
  SweepFolder(const fs::path& path, const OpenOptions& options)
      : summary_(fs::is_directory(path) ? path / "sweep.json" : path),
        config_path_(options.config.value_or((folder() / "ds_config.json").string())),
        config_is_named_(options.config.has_value()),
        sweep_(read_sweep(summary_.string())),
        row_(options.row) {
    if (row_) check_row(*row_, summary_.string(), sweep_);
    if (!row_ && sweep_.recommended.written) row_ = sweep_.recommended.written->row;
  }

  [[nodiscard]] const Sweep& sweep() const override { return sweep_; }
  [[nodiscard]] std::optional<std::size_t> row() const override { return row_; }

  [[nodiscard]] const StepTrace* trace() const override {
    const fs::path path = folder() / "step.json.gz";
    if (!trace_ && fs::exists(path)) {
      trace_ = std::make_unique<StepTrace>(read_step_trace(path.string()));
      if (fingerprint(*trace_) != sweep_.fingerprint) {
        throw InputError(path.string(), "",
                         "is another step than that of the sweep beside it; sweep again");
      }
    }
    return trace_.get();
  }

  [[nodiscard]] const RowDetail* detail(std::size_t row) const override {
    if (detail_ && detail_row_ == row) return detail_.get();
    const fs::path path = folder() / "rows" / (std::to_string(row) + ".json.gz");
    if (!fs::exists(path)) return nullptr;
    RowDetail detail = read_row_detail(path.string());
    const bool belongs = detail.fingerprint == sweep_.fingerprint &&
                         detail.row.setting == sweep_.rows.at(row).setting;
    if (!belongs) {
      throw InputError(path.string(), "",
                       "is another row than that of the sweep beside it; sweep again");
    }
    detail_ = std::make_unique<RowDetail>(std::move(detail));
    detail_row_ = row;
    return detail_.get();
  }

  [[nodiscard]] const Config* config() const override {
    if (!config_ && (config_is_named_ || fs::exists(config_path_))) {
      config_ = std::make_unique<Config>(read_config(config_path_));
    }
    return config_.get();
  }

 private:
  [[nodiscard]] fs::path folder() const { return summary_.parent_path(); }

  fs::path summary_;
  std::string config_path_;
  bool config_is_named_;
  Sweep sweep_;
  std::optional<std::size_t> row_;
  mutable std::unique_ptr<StepTrace> trace_;
  mutable std::unique_ptr<Config> config_;
  // One at a time: the schedules of a whole sweep together can be large.
  mutable std::unique_ptr<RowDetail> detail_;
  mutable std::size_t detail_row_ = 0;
};

// A plan's module forms as the rows of a sweep.
class PlanForms final : public ReportSource {
 public:
  PlanForms(const std::string& path, const OpenOptions& options)
      : modules_(read_modules(path, sweep_)) {
    if (options.row) {
      check_row(*options.row, path, sweep_);
      row_ = options.row;
    } else {
      row_ = modules_.row;
    }
    if (options.config) config_ = std::make_unique<Config>(read_config(*options.config));
  }

  [[nodiscard]] const Sweep& sweep() const override { return sweep_; }
  [[nodiscard]] std::optional<std::size_t> row() const override { return row_; }
  [[nodiscard]] const StepTrace* trace() const override { return nullptr; }
  [[nodiscard]] const RowDetail* detail(std::size_t) const override { return nullptr; }
  [[nodiscard]] const Config* config() const override { return config_.get(); }
  [[nodiscard]] const ModuleForms* modules() const override { return &modules_; }

 private:
  static ModuleForms read_modules(const std::string& path, Sweep& sweep) {
    PlanFile plan = read_plan(path);
    sweep.fingerprint = plan.fingerprint;
    sweep.budget_bytes = plan.budget_bytes;
    sweep.limit = peak_limit(plan.limit);
    sweep.rows = plan.modules.rows;
    return std::move(plan.modules);
  }

  static PeakLimit peak_limit(Limit limit) {
    switch (limit) {
      case Limit::live:
        return PeakLimit::live;
      case Limit::allocated:
        return PeakLimit::allocated;
      case Limit::reserved:
        return PeakLimit::reserved;
    }
    return PeakLimit::automatic;
  }

  Sweep sweep_;
  ModuleForms modules_;
  std::optional<std::size_t> row_;
  std::unique_ptr<Config> config_;
};

}  // namespace

std::unique_ptr<ReportSource> open_result(const std::string& path, const OpenOptions& options) {
  if (is_plan(path)) return std::make_unique<PlanForms>(path, options);
  return open_sweep(path, options);
}

std::unique_ptr<ReportSource> open_sweep(const std::string& path, const OpenOptions& options) {
  return std::make_unique<SweepFolder>(path, options);
}

}  // namespace tidemark
