// Report: what a sweep found; everything already computed, formats only print it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

enum class Status : std::uint8_t { ok, out_of_memory, invalid, failed };

[[nodiscard]] std::string_view name(Status status);            // "ok", "out_of_memory", ...
[[nodiscard]] std::string_view name(GradientVerdict verdict);  // "equal", "differ", ...
[[nodiscard]] std::string_view name(DeviceKind kind);          // "cpu", "cuda", ...

struct MeasuredFigures {
  StepFigures figures;
  std::optional<double> step_seconds_noise;
  bool operator==(const MeasuredFigures&) const = default;
};

struct SweepRow {
  // Whose plan within the budget this is, by the planner's name. It decides about single operators,
  // so `setting` then says nothing. Empty: the row is a setting.
  std::string planner;
  Setting setting;
  bool yours = false;                    // the config's own setting
  std::optional<StepFigures> predicted;  // absent for invalid rows
  std::optional<MeasuredFigures> measured;
  std::optional<bool> fits;  // absent without a budget
  GradientVerdict gradients = GradientVerdict::not_run;
  Status status = Status::ok;
  std::string peak_operator;  // "aten::addmm in blocks.3.fc (backward)", for people
  std::vector<std::string> notes;

  [[nodiscard]] bool is_plan() const { return !planner.empty(); }
  // The step without any checkpointing.
  [[nodiscard]] bool is_plain() const { return !is_plan() && !setting.number_checkpoints; }
  bool operator==(const SweepRow&) const = default;
};

struct Recommendation {
  std::size_t row = 0;
  std::string reason;  // one sentence
  bool operator==(const Recommendation&) const = default;
};

// The fastest row that fits, the smallest, and the knee: the largest distance to the chord between
// the fastest and the smallest row in (peak, time). `written` is the one that the config gets: the
// fastest if the user gave a budget or the plain step does not fit, else the knee. All four are
// settings; `plan` is the fastest plan that fits, beside them.
struct Recommended {
  std::optional<Recommendation> fastest;
  std::optional<Recommendation> smallest;
  std::optional<Recommendation> knee;
  std::optional<Recommendation> written;
  std::optional<Recommendation> plan;
  bool operator==(const Recommended&) const = default;
};

enum class PeakLimit : std::uint8_t { automatic, live, allocated, reserved };

struct Sweep {
  static constexpr std::int32_t schema_version = 1;

  Provenance provenance;
  TraceDevice device;
  std::string fingerprint;
  std::optional<Bytes> budget_bytes;
  bool is_default_budget = false;  // what the GPU has, not what the user asked for
  PeakLimit limit = PeakLimit::automatic;
  std::string time_model;  // whose rates gave the predicted times; empty: the trace's own times
  std::vector<SweepRow> rows;
  Recommended recommended;
  std::vector<std::string> notes;
  bool operator==(const Sweep&) const = default;
};

// The peak that a budget is held against: reserved where there is an allocator, else live.
[[nodiscard]] Bytes limiting_peak(const StepFigures& figures, PeakLimit limit);

// Whether the predicted times come from rates instead of timed operators, as on a GPU that is not
// there. Wherever such a time is shown, it is called modelled.
[[nodiscard]] bool times_are_modelled(const Sweep& sweep);

// Measured figures where a row has them, else the predicted ones.
[[nodiscard]] const StepFigures& best_figures(const SweepRow& row);

// Fills in `fits` and `recommended`. Deterministic: ties go to the earlier row. Step times compare
// by the predicted ones, so that noise cannot turn a recommendation.
void recommend(Sweep& sweep);

// "4", "none", "partition M=2, cpu async, non_reentrant": the setting in a table's cell.
[[nodiscard]] std::string describe(const Setting& setting);
// The same of a row, which may be a plan: "plan by tide".
[[nodiscard]] std::string describe(const SweepRow& row);
// "5.41 GiB", "812 MiB", "640 B"; and "12.3 ms".
[[nodiscard]] std::string format_bytes(Bytes bytes);
[[nodiscard]] std::string format_seconds(double seconds);
// "2.3 %", "41 %": a fraction without its sign, in two figures.
[[nodiscard]] std::string format_percent(double fraction);

}  // namespace tidemark
