// CUPTI's activity records of one execution, joined to the steps that caused them.
#pragma once

#include <cupti.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <vector>

#include "tidemark/units.hpp"

namespace tidemark {

// What the GPU did for one step of the schedule.
struct StepActivity {
  Nanoseconds kernel{0};
  Nanoseconds copy{0};  // copies and fills
  std::int32_t kernels = 0;
  // On the GPU's own clock; absent where the step launched nothing.
  std::optional<Nanoseconds> begin;
  std::optional<Nanoseconds> end;
  bool operator==(const StepActivity&) const = default;
};

struct ActivitySummary {
  std::vector<StepActivity> steps;
  Nanoseconds kernel{0};           // time in which at least one kernel ran
  Nanoseconds copy{0};             // time in which at least one copy ran
  Nanoseconds overlap{0};          // time in which both did
  Nanoseconds idle{0};             // between the first and the last activity, nothing ran
  Nanoseconds synchronization{0};  // the host waited
  std::int64_t unjoined = 0;       // records of no step
  std::int64_t dropped = 0;        // records that CUPTI lost
  std::int64_t untimed = 0;        // records without a time, or with an impossible one
  bool operator==(const ActivitySummary&) const = default;
};

// Records arrive in any order: what a record belongs to may be told before or after it.
class ActivityTimes {
 public:
  void add(const CUpti_Activity& record);
  void add_dropped(std::int64_t records) { dropped_ += records; }
  // What CUPTI's clock said before the first and after the last launch. Right after it starts to
  // record, CUPTI may give times that lie long before.
  void set_window(std::int64_t begin, std::int64_t end);
  // External ids are positions of steps plus 1; 0 is no step.
  [[nodiscard]] ActivitySummary summary(std::size_t steps) const;

 private:
  enum class Kind : std::uint8_t { kernel, copy };
  struct Interval {
    std::uint32_t correlation = 0;
    Kind kind = Kind::kernel;
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };
  template <typename Record>
  void add_interval(const CUpti_Activity& record, Kind kind);
  [[nodiscard]] bool is_possible(const Interval& interval) const;
  void sum_up_overlaps(ActivitySummary& summary) const;

  std::vector<Interval> intervals_;
  std::int64_t window_begin_ = std::numeric_limits<std::int64_t>::min();
  std::int64_t window_end_ = std::numeric_limits<std::int64_t>::max();
  std::unordered_map<std::uint32_t, std::uint64_t> external_ids_;  // by correlation
  Nanoseconds synchronization_{0};
  std::int64_t dropped_ = 0;
};

}  // namespace tidemark
