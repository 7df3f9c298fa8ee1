// What planning needs to know of a step: values (the storages that operators make), who makes,
// overwrites and uses them, and what may run again when. Positions are those of the recorded
// operators; one more position, the end, uses what outlives the step.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark::tide {

using Position = std::int32_t;
using ValueId = std::int32_t;  // a storage that is not static, by its storage's number

struct Value {
  Bytes bytes = 0;
  Position creator = -1;          // -1: static
  std::vector<Position> writers;  // operators that overwrite it, ascending
};

struct Operation {
  std::vector<ValueId> operands;  // values read or overwritten, each once
  std::vector<ValueId> creates;
  std::int64_t nanoseconds = 0;
  Bytes workspace = 0;
  // Values that it overwrites; running it again serves to rebuild them.
  std::vector<ValueId> overwrites;
  // May run again before positions up to this one, where what it reads is still in the version
  // that it saw; -1: never.
  Position again_until = -1;
  // The same without regard to values that could be rebuilt in an older version: what no schedule
  // can do, rather than what ours do.
  Position again_in_any_schedule_until = -1;
};

class StepGraph {
 public:
  explicit StepGraph(const StepTrace& trace);

  [[nodiscard]] Position end() const { return static_cast<Position>(operations_.size()) - 1; }
  // Operations of positions 0 to end().
  [[nodiscard]] const Operation& at(Position p) const {
    return operations_[static_cast<std::size_t>(p)];
  }
  [[nodiscard]] const Value& value(ValueId v) const { return values_[static_cast<std::size_t>(v)]; }
  [[nodiscard]] ValueId value_count() const { return static_cast<ValueId>(values_.size()); }
  [[nodiscard]] bool is_static(ValueId v) const { return value(v).creator < 0; }
  [[nodiscard]] Bytes static_bytes() const { return static_bytes_; }
  [[nodiscard]] std::int64_t total_nanoseconds() const { return total_nanoseconds_; }
  [[nodiscard]] const StepTrace& trace() const { return trace_; }
  // By position: the operator before it whose first run comes earlier in every schedule, because
  // both are random or write state; -1: none.
  [[nodiscard]] const std::vector<Position>& previous_ordered() const { return previous_ordered_; }

  // The operators whose results p uses.
  template <typename Visit>
  void for_each_predecessor(Position p, Visit&& visit) const {
    for (const ValueId v : at(p).operands) {
      visit(value(v).creator);
      for (const Position writer : value(v).writers) {
        if (writer < p) visit(writer);
      }
    }
  }

 private:
  void find_repeatable(const std::vector<std::vector<Position>>& static_writers);

  const StepTrace& trace_;
  std::vector<Value> values_;
  std::vector<Operation> operations_;
  std::vector<Position> previous_ordered_;
  Bytes static_bytes_ = 0;
  std::int64_t total_nanoseconds_ = 0;
};

}  // namespace tidemark::tide
