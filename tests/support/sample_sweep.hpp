// One sweep that holds every case a report has to print.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "tidemark/report.hpp"

namespace tidemark::test {

// Static memory of 256 MiB and one other term, in MiB, that make the peak.
inline StepFigures sample_figures(Bytes rest, Term term, std::optional<double> step,
                                  std::optional<double> recompute) {
  StepFigures figures;
  figures.static_bytes = 256 * mebibyte;
  figures.live_peak_bytes = figures.static_bytes + rest * mebibyte;
  figures.peak_breakdown[static_cast<std::size_t>(Term::static_memory)] = figures.static_bytes;
  figures.peak_breakdown[static_cast<std::size_t>(term)] = rest * mebibyte;
  figures.peak_term = term;
  figures.peak_op = OpId{17};
  figures.step_seconds = step;
  figures.recompute_seconds = recompute;
  figures.transfer_seconds = step ? std::optional(0.0) : std::nullopt;
  return figures;
}

inline SweepRow sample_row(std::optional<std::int32_t> checkpoints, const StepFigures& predicted) {
  SweepRow row;
  row.setting.number_checkpoints = checkpoints;
  row.predicted = predicted;
  return row;
}

inline SweepRow sample_refusal(Status status, const std::string& reason) {
  SweepRow row;
  row.status = status;
  row.notes = {reason};
  return row;
}

// Measured to the byte, and with the plain step's time.
inline SweepRow sample_plain_row() {
  SweepRow row = sample_row({}, sample_figures(768, Term::activations, 0.100, 0.0));
  row.measured = MeasuredFigures{.figures = *row.predicted, .step_seconds_noise = 0.0005};
  row.measured->figures.step_seconds = 0.102;
  row.gradients = GradientVerdict::equal;
  row.peak_operator = "aten::_softmax in blocks.11.attention (forward)";
  return row;
}

// The config's own setting; measured 512 bytes above the prediction.
inline SweepRow sample_yours() {
  SweepRow row = sample_row(4, sample_figures(128, Term::recomputed_segment, 0.125, 0.025));
  row.setting.segments = {{"blocks.0", "blocks.1"}, {"blocks.2"}};
  row.yours = true;
  row.measured = MeasuredFigures{.figures = *row.predicted, .step_seconds_noise = {}};
  row.measured->figures.live_peak_bytes += 512;
  row.measured->figures.peak_breakdown[static_cast<std::size_t>(Term::workspace)] = 512;
  row.measured->figures.step_seconds = 0.1275;
  row.measured->figures.recompute_seconds = 0.0262;
  row.gradients = GradientVerdict::differ;
  row.peak_operator = "aten::addmm in blocks.2.fc (backward)";
  row.notes = {"batch norm's statistics are written twice, as the framework does"};
  return row;
}

// Predicted only, with values on the host and bytes moved.
inline SweepRow sample_offloaded() {
  SweepRow row = sample_row(4, sample_figures(128, Term::recomputed_segment, 0.145, 0.025));
  row.setting.cpu_checkpointing = CpuCheckpointing::blocking;
  row.predicted->host_peak_bytes = 96 * mebibyte;
  row.predicted->pinned_reserved_bytes = 128 * mebibyte;
  row.predicted->transfer_bytes = 192 * mebibyte;
  row.predicted->transfer_seconds = 0.0175;
  row.notes = {"batch norm's statistics are written twice, as the framework does",
               "a note with a | pipe, a \"quote\" and a\nline break"};
  return row;
}

inline SweepRow sample_out_of_memory() {
  SweepRow row = sample_row(2, sample_figures(512, Term::held_checkpoints, 0.120, 0.020));
  row.status = Status::out_of_memory;
  row.notes = {"384 MiB were asked for and 100 MiB were free"};
  return row;
}

inline SweepRow sample_invalid() {
  SweepRow row = sample_refusal(Status::invalid,
                                "CPU availability is only valid with partitioned activations. Set "
                                "partitioned_activations to true. No time is given.");
  row.setting.number_checkpoints = 4;
  row.setting.contiguous_memory_optimization = true;
  row.setting.cpu_checkpointing = CpuCheckpointing::async;
  return row;
}

inline Sweep sample_sweep() {
  Sweep sweep;
  sweep.provenance.tool = "tidemark 0.1.0";
  sweep.provenance.command_line = "tidemark sweep model.pt2 --budget 512MiB";
  sweep.provenance.created = "2026-01-31T12:00:00Z";
  sweep.provenance.seed = 7;
  sweep.device = {.kind = DeviceKind::cpu,
                  .name = "a processor",
                  .threads = 2,
                  .copy_bytes_per_second = 1.5e10};
  sweep.fingerprint = "0123456789abcdef0123456789abcdef";
  sweep.budget_bytes = 512 * mebibyte;
  sweep.rows = {sample_plain_row(), sample_out_of_memory(), sample_yours(),
                sample_offloaded(), sample_invalid(),       sample_refusal(Status::failed, "")};
  sweep.rows.back().setting.number_checkpoints = 12;
  sweep.rows.back().setting.method = Method::non_reentrant;
  sweep.rows.back().notes.clear();
  sweep.notes = {"12 of 12 blocks were found under blocks"};
  recommend(sweep);
  return sweep;
}

// Of an imported trace: nothing was measured and no time is known.
inline Sweep sample_sweep_without_times() {
  Sweep sweep;
  sweep.fingerprint = "0123456789abcdef0123456789abcdef";
  sweep.rows = {sample_row({}, sample_figures(768, Term::activations, {}, {})),
                sample_row(4, sample_figures(128, Term::recomputed_segment, {}, {}))};
  recommend(sweep);
  return sweep;
}

}  // namespace tidemark::test
