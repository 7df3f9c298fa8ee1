// What a format or target says where a source lacks what it needs.
#include <algorithm>
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/export.hpp"
#include "tidemark/module_forms.hpp"

namespace tidemark {

const SelectiveForm* chosen_selective(const ReportSource& source) {
  const ModuleForms* modules = source.modules();
  const bool is_chosen = modules != nullptr && modules->selective && !source.row();
  return is_chosen ? &*modules->selective : nullptr;
}

namespace {

std::string no_row_of_plan(const ModuleForms& modules, PeakLimit limit) {
  if (modules.rows.empty()) {
    return "the plan's step has no blocks that are modules of a model, so no framework can be told "
           "of it";
  }
  const auto smallest = std::min_element(
      modules.rows.begin(), modules.rows.end(), [&](const SweepRow& a, const SweepRow& b) {
        return limiting_peak(*a.predicted, limit) < limiting_peak(*b.predicted, limit);
      });
  return "no setting of whole blocks or kept operators stays within the plan's budget; the nearest "
         "is --row " +
         std::to_string(smallest - modules.rows.begin()) + " (" + describe(smallest->setting) +
         ", " + format_bytes(limiting_peak(*smallest->predicted, limit)) + ")";
}

}  // namespace

std::size_t chosen_row(const ReportSource& source) {
  const auto row = source.row();
  if (!row && source.modules() != nullptr) {
    throw UsageError(no_row_of_plan(*source.modules(), source.sweep().limit));
  }
  if (!row) throw UsageError("nothing fits, so no row is recommended; name one with --row N");
  return *row;
}

const StepTrace& kept_trace(const ReportSource& source) {
  if (source.trace() != nullptr) return *source.trace();
  throw UsageError("this needs the recorded step; name the sweep's folder, made by sweep -o DIR");
}

const RowDetail& kept_detail(const ReportSource& source, std::size_t row) {
  const RowDetail* detail = source.detail(row);
  if (detail == nullptr) {
    throw UsageError("this needs the schedule of row " + std::to_string(row) +
                     "; name the sweep's folder, made by sweep -o DIR");
  }
  const Status status = source.sweep().rows.at(row).status;
  if (status == Status::invalid) {
    throw UsageError("row " + std::to_string(row) + " is invalid, so it has no schedule: " +
                     (detail->row.notes.empty() ? "no reason was kept" : detail->row.notes[0]));
  }
  return *detail;
}

}  // namespace tidemark
