#include "activity_times.hpp"

#include <algorithm>
#include <array>

namespace tidemark {

namespace {

// How far the GPU's clock, as CUPTI translates it, may be off the host's.
constexpr std::int64_t clock_error_ns = 1'000'000;

}  // namespace

template <typename Record>
void ActivityTimes::add_interval(const CUpti_Activity& record, Kind kind) {
  const auto& activity = reinterpret_cast<const Record&>(record);  // NOLINT: as CUPTI defines it
  intervals_.push_back({.correlation = activity.correlationId,
                        .kind = kind,
                        .begin = static_cast<std::int64_t>(activity.start),
                        .end = static_cast<std::int64_t>(activity.end)});
}

void ActivityTimes::set_window(std::int64_t begin, std::int64_t end) {
  window_begin_ = begin - clock_error_ns;
  window_end_ = end + clock_error_ns;
}

// Without an end the activity did not complete before the flush, or CUPTI could not time it.
bool ActivityTimes::is_possible(const Interval& interval) const {
  return interval.end > 0 && interval.begin <= interval.end && interval.begin >= window_begin_ &&
         interval.end <= window_end_;
}

// Newer records only append fields, so these structures read them too.
void ActivityTimes::add(const CUpti_Activity& record) {
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      return add_interval<CUpti_ActivityKernel10>(record, Kind::kernel);
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return add_interval<CUpti_ActivityMemcpy6>(record, Kind::copy);
    case CUPTI_ACTIVITY_KIND_MEMCPY2:
      return add_interval<CUpti_ActivityMemcpyPtoP4>(record, Kind::copy);
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return add_interval<CUpti_ActivityMemset4>(record, Kind::copy);
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION: {
      const auto& wait = reinterpret_cast<const CUpti_ActivitySynchronization2&>(record);  // NOLINT
      if (wait.end > wait.start) {
        synchronization_ += Nanoseconds(static_cast<std::int64_t>(wait.end - wait.start));
      }
      return;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto& joined =
          reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);  // NOLINT
      external_ids_[joined.correlationId] = joined.externalId;
      return;
    }
    default:
      return;
  }
}

ActivitySummary ActivityTimes::summary(std::size_t steps) const {
  ActivitySummary summary;
  summary.steps.resize(steps);
  summary.synchronization = synchronization_;
  summary.dropped = dropped_;
  for (const Interval& interval : intervals_) {
    if (!is_possible(interval)) {
      ++summary.untimed;
      continue;
    }
    const auto found = external_ids_.find(interval.correlation);
    const std::uint64_t external = found == external_ids_.end() ? 0 : found->second;
    if (external == 0 || external > steps) {
      ++summary.unjoined;
      continue;
    }
    StepActivity& step = summary.steps[external - 1];
    const Nanoseconds begin(interval.begin);
    const Nanoseconds end(interval.end);
    step.begin = step.begin ? std::min(*step.begin, begin) : begin;
    step.end = step.end ? std::max(*step.end, end) : end;
    (interval.kind == Kind::kernel ? step.kernel : step.copy) += end - begin;
    if (interval.kind == Kind::kernel) ++step.kernels;
  }
  sum_up_overlaps(summary);
  return summary;
}

// One pass over all begins and ends in the order of time.
void ActivityTimes::sum_up_overlaps(ActivitySummary& summary) const {
  struct Edge {
    std::int64_t time = 0;
    int change = 0;
    Kind kind = Kind::kernel;
  };
  std::vector<Edge> edges;
  for (const Interval& interval : intervals_) {
    if (!is_possible(interval)) continue;
    edges.push_back({interval.begin, 1, interval.kind});
    edges.push_back({interval.end, -1, interval.kind});
  }
  std::sort(edges.begin(), edges.end(),
            [](const Edge& a, const Edge& b) { return a.time < b.time; });
  std::array<int, 2> running{};
  for (std::size_t e = 0; e < edges.size(); ++e) {
    running[static_cast<std::size_t>(edges[e].kind)] += edges[e].change;
    if (e + 1 == edges.size()) break;
    const Nanoseconds span(edges[e + 1].time - edges[e].time);
    const bool has_kernel = running[0] > 0;
    const bool has_copy = running[1] > 0;
    if (has_kernel) summary.kernel += span;
    if (has_copy) summary.copy += span;
    if (has_kernel && has_copy) summary.overlap += span;
    if (!has_kernel && !has_copy) summary.idle += span;
  }
}

}  // namespace tidemark
