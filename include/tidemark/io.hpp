// Reading and writing files, all without Torch. Broken input throws InputError: one sentence that
// names the file, the place in it and the remedy.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tidemark/config.hpp"
#include "tidemark/export.hpp"
#include "tidemark/gpu_profile.hpp"
#include "tidemark/module_forms.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/program.hpp"
#include "tidemark/report.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/time_model.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// A .pt2 archive. Weights are not read, only located.
[[nodiscard]] Program read_program(const std::string& path);
// The same from bytes in memory; `path` is for messages. For tests and fuzzing.
[[nodiscard]] Program parse_program(const std::string& path, const std::string& bytes);

// The tool's own step trace: JSON, gzip when the name ends in .gz (recognised by content on
// reading). Reading checks it (check_trace). Writing and reading gives an equal trace.
[[nodiscard]] StepTrace read_step_trace(const std::string& path);
[[nodiscard]] StepTrace parse_step_trace(const std::string& path, const std::string& text);
void write_step_trace(const StepTrace& trace, const std::string& path);
[[nodiscard]] std::string format_step_trace(const StepTrace& trace);

// machine.json.
[[nodiscard]] MachineRates read_machine(const std::string& path);
[[nodiscard]] MachineRates parse_machine(const std::string& path, const std::string& text);
[[nodiscard]] std::string format_machine(const MachineRates& rates);

[[nodiscard]] Config read_config(const std::string& path);

// sweep.json.
[[nodiscard]] Sweep read_sweep(const std::string& path);
[[nodiscard]] Sweep parse_sweep(const std::string& path, const std::string& text);
[[nodiscard]] std::string format_sweep(const Sweep& sweep);

// rows/N.json.gz.
[[nodiscard]] RowDetail read_row_detail(const std::string& path);
[[nodiscard]] RowDetail parse_row_detail(const std::string& path, const std::string& text);
[[nodiscard]] std::string format_row_detail(const RowDetail& detail);

// A finished sweep by its folder or its sweep.json, for formats and targets. The trace, the rows'
// details and the configuration are read when first asked for.
struct OpenOptions {
  std::optional<std::size_t> row;     // the chosen one; absent: the recommended one
  std::optional<std::string> config;  // the user's file; absent: the one in the folder
};
[[nodiscard]] std::unique_ptr<ReportSource> open_sweep(const std::string& path,
                                                       const OpenOptions& options = {});

// The same for what can be written in a framework's syntax: a sweep, or a plan.json by its module
// forms. Recognised by the file's format.
[[nodiscard]] std::unique_ptr<ReportSource> open_result(const std::string& path,
                                                        const OpenOptions& options = {});

// A GPU of the user's own: JSON with the fields of GpuProfile. `list gpus --json` prints the known
// ones in that form, to start from.
[[nodiscard]] GpuProfile parse_gpu_profile(const std::string& path, const std::string& text);
[[nodiscard]] std::string format_gpu_profile(const GpuProfile& profile);
// The card as cuDNN describes devices (JSON): its own description, or one made from the profile.
[[nodiscard]] std::string cudnn_description(const GpuProfile& profile);
// The card with what its cuDNN said of it. Throws InputError where that is of no use to a phantom.
[[nodiscard]] GpuProfile with_cudnn_description(GpuProfile profile, const std::string& text);

// "h200", or "custom:FILE", where the file is a profile or a GPU's calibration. Throws UsageError
// with the known names.
[[nodiscard]] Gpu find_gpu(const std::string& name);

// plan.json: a plan, which step and budget it is for, and how it went. The timeline is not kept:
// simulate() gives it again.
struct PlanFile {
  std::string fingerprint;
  std::string planner;
  std::optional<Bytes> budget_bytes;
  Limit limit = Limit::live;
  std::string alloc_conf;  // the caching allocator's settings, as PYTORCH_ALLOC_CONF has them
  bool truncated = false;
  StepFigures predicted;
  // Static memory and one arena in which everything the plan makes has a fixed offset.
  std::optional<Bytes> packed_bytes;
  std::optional<double> lower_bound_seconds;
  std::optional<double> gap;
  std::vector<std::string> decisions;  // describe_decisions(), for people
  std::vector<std::string> notes;
  ModuleForms modules;
  Schedule schedule;
  std::optional<MeasuredFigures> measured;
  GradientVerdict gradients = GradientVerdict::not_run;
  bool operator==(const PlanFile&) const = default;
};
[[nodiscard]] PlanFile read_plan(const std::string& path);
[[nodiscard]] PlanFile parse_plan(const std::string& path, const std::string& text);
[[nodiscard]] std::string format_plan(const PlanFile& plan);
// Whether the file at `path` says that it is a plan; false for a folder and what cannot be read.
[[nodiscard]] bool is_plan(const std::string& path);

// Whole files. Gzip is undone by content; writing compresses when the name ends in .gz, goes
// through a temporary file beside the target, and is complete or absent.
[[nodiscard]] std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

// The registry of readers: recognises a file by its content and reads it.
using ModelInput = std::variant<Program, StepTrace>;
[[nodiscard]] ModelInput read_model(const std::string& path);

// "6GiB", "6GB", plain bytes. Throws UsageError with the accepted suffixes.
[[nodiscard]] Bytes parse_bytes(const std::string& text);

}  // namespace tidemark
