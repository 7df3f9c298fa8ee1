// What a format or target says where a source lacks what it needs.
#include <string>

#include "tidemark/errors.hpp"
#include "tidemark/export.hpp"

namespace tidemark {

std::size_t chosen_row(const ReportSource& source) {
  const auto row = source.row();
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
