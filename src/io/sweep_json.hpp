// Parts of sweep.json that a row's own file and a plan share.
#pragma once

#include "json_reading.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

[[nodiscard]] OrderedJson figures_to_json(const StepFigures& figures);
[[nodiscard]] StepFigures read_figures(const JsonCursor& json);
// Null: absent.
[[nodiscard]] OrderedJson measured_to_json(const std::optional<MeasuredFigures>& measured);
[[nodiscard]] std::optional<MeasuredFigures> find_measured(const JsonCursor& json);
[[nodiscard]] GradientVerdict read_verdict(const JsonCursor& json);
[[nodiscard]] OrderedJson row_to_json(const SweepRow& row);
[[nodiscard]] SweepRow read_row(const JsonCursor& json);

}  // namespace tidemark
