// The Exporter and Target seams: what a finished sweep is written out as, for people, for other
// tools, and back into the user's framework.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tidemark/config.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/report.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// rows/N.json.gz: row N of a sweep, its schedule, and both timelines.
struct RowDetail {
  std::string fingerprint;
  SweepRow row;
  Schedule schedule;
  std::optional<MemoryTimeline> predicted;
  std::optional<MemoryTimeline> measured;
  bool operator==(const RowDetail&) const = default;
};

struct ModuleForms;
struct SelectiveForm;

// What formats and targets write from: a sweep, the row in question, and what was kept beside it.
// Only the sweep itself is always there; the rest is nullptr where it was not kept. References and
// pointers stay valid as long as the source; a detail only until another row's is asked for.
class ReportSource {
 public:
  ReportSource() = default;
  ReportSource(const ReportSource&) = delete;
  ReportSource& operator=(const ReportSource&) = delete;
  virtual ~ReportSource() = default;
  [[nodiscard]] virtual const Sweep& sweep() const = 0;
  // The row that was chosen, else the recommended one; absent: none was chosen and nothing fits.
  [[nodiscard]] virtual std::optional<std::size_t> row() const = 0;
  [[nodiscard]] virtual const StepTrace* trace() const = 0;
  [[nodiscard]] virtual const RowDetail* detail(std::size_t row) const = 0;
  [[nodiscard]] virtual const Config* config() const = 0;
  // Of a plan, whose rows they are; nullptr: this is a sweep.
  [[nodiscard]] virtual const ModuleForms* modules() const { return nullptr; }
};

// A sweep of which nothing else was kept; the caller owns it.
class SweepOnly final : public ReportSource {
 public:
  explicit SweepOnly(const Sweep& sweep) : sweep_(sweep) {}
  [[nodiscard]] const Sweep& sweep() const override { return sweep_; }
  [[nodiscard]] std::optional<std::size_t> row() const override {
    return sweep_.recommended.written ? std::optional(sweep_.recommended.written->row)
                                      : std::nullopt;
  }
  [[nodiscard]] const StepTrace* trace() const override { return nullptr; }
  [[nodiscard]] const RowDetail* detail(std::size_t) const override { return nullptr; }
  [[nodiscard]] const Config* config() const override { return nullptr; }

 private:
  const Sweep& sweep_;
};

// What stands for a plan of which no row was chosen; nullptr: a row does.
[[nodiscard]] const SelectiveForm* chosen_selective(const ReportSource& source);

// For those that cannot do without: throw UsageError with the remedy where there is none.
[[nodiscard]] std::size_t chosen_row(const ReportSource& source);
[[nodiscard]] const StepTrace& kept_trace(const ReportSource& source);
[[nodiscard]] const RowDetail& kept_detail(const ReportSource& source, std::size_t row);

// A form to look at or to process: one file in reports/, one line in its registry. Writes the whole
// sweep, or the chosen row where the form shows one step.
class Exporter {
 public:
  Exporter() = default;
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;
  virtual ~Exporter() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::string_view description() const = 0;
  virtual void write(const ReportSource& source, std::ostream& out) const = 0;
};
[[nodiscard]] std::span<const Exporter* const> exporters();

// A framework's own syntax for the chosen row's setting: one file in reports/, one line in the
// registry of targets.
class Target {
 public:
  Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  virtual ~Target() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::string_view description() const = 0;
  // Throws UsageError where the framework cannot express the setting: what it cannot, and the
  // nearest row that it can, with its figures.
  virtual void write(const ReportSource& source, std::ostream& out) const = 0;
};
[[nodiscard]] std::span<const Target* const> targets();

}  // namespace tidemark
