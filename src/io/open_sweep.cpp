// A sweep's folder as a source for formats and targets.
#include <filesystem>
#include <memory>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

namespace fs = std::filesystem;

class SweepFolder final : public ReportSource {
 public:
  SweepFolder(const fs::path& path, const OpenOptions& options)
      : summary_(fs::is_directory(path) ? path / "sweep.json" : path),
        config_path_(options.config.value_or((folder() / "ds_config.json").string())),
        config_is_named_(options.config.has_value()),
        sweep_(read_sweep(summary_.string())),
        row_(options.row) {
    if (row_ && *row_ >= sweep_.rows.size()) {
      throw UsageError("row " + std::to_string(*row_) + " is asked for, but " + summary_.string() +
                       " has " + std::to_string(sweep_.rows.size()) + ", counted from 0");
    }
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

}  // namespace

std::unique_ptr<ReportSource> open_sweep(const std::string& path, const OpenOptions& options) {
  return std::make_unique<SweepFolder>(path, options);
}

}  // namespace tidemark
