#include "cuda_timers.hpp"

#include <ATen/cuda/CUDAEvent.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string milliseconds(Nanoseconds time) {
  std::ostringstream text;
  text.precision(3);
  text << seconds(time) * 1e3 << " ms";
  return text.str();
}

std::vector<std::string> notes_on(const ActivitySummary& summary) {
  std::vector<std::string> notes;
  notes.push_back("on the GPU: kernels " + milliseconds(summary.kernel) + ", copies " +
                  milliseconds(summary.copy) + " of which " + milliseconds(summary.overlap) +
                  " beside kernels, idle between launches " + milliseconds(summary.idle));
  if (summary.dropped > 0) {
    notes.push_back("CUPTI lost " + std::to_string(summary.dropped) +
                    " records, so kernel times are too low");
  }
  if (summary.untimed > 0) {
    notes.push_back("CUPTI gave " + std::to_string(summary.untimed) +
                    " records without a usable time, so kernel times are too low");
  }
  return notes;
}

class CuptiTimer final : public StepTimer {
 public:
  CuptiTimer(CuptiSession& session, std::size_t steps) : session_(session) {
    works_.reserve(steps);
  }
  CuptiTimer(const CuptiTimer&) = delete;
  CuptiTimer& operator=(const CuptiTimer&) = delete;
  // A step that failed must not have the next execution's launches.
  ~CuptiTimer() override {
    if (is_in_step_) session_.pop();
  }

  void begin(StepWork work) override {
    if (works_.empty()) {
      session_.start();
      begin_ = Clock::now();
    }
    works_.push_back(work);
    session_.push(works_.size());
    is_in_step_ = true;
  }

  void end(StepWork) override {
    session_.pop();
    is_in_step_ = false;
  }

  [[nodiscard]] StepTimes finish() override {
    StepTimes times;
    times.step_seconds = seconds_since(begin_);
    const ActivitySummary summary = session_.stop(works_.size());
    Nanoseconds recompute{0};
    Nanoseconds transfer{0};
    for (std::size_t s = 0; s < works_.size(); ++s) {
      const StepActivity& step = summary.steps[s];
      if (works_[s] == StepWork::recompute) recompute += step.kernel;
      if (works_[s] == StepWork::transfer) transfer += step.kernel + step.copy;
    }
    times.recompute_seconds = seconds(recompute);
    times.transfer_seconds = seconds(transfer);
    times.begins = begins_of(summary.steps);
    times.notes = notes_on(summary);
    return times;
  }

 private:
  CuptiSession& session_;
  std::vector<StepWork> works_;
  bool is_in_step_ = false;
  Clock::time_point begin_;
};

class EventTimer final : public StepTimer {
 public:
  EventTimer(const TimedCopies& copies, std::string reason, std::size_t steps)
      : copies_(copies), reason_(std::move(reason)) {
    works_.reserve(steps);
    events_.reserve(steps + 1);
  }

  void begin(StepWork work) override {
    if (works_.empty()) begin_ = Clock::now();
    works_.push_back(work);
    mark();
  }
  void end(StepWork) override {}

  [[nodiscard]] StepTimes finish() override {
    StepTimes times;
    times.step_seconds = seconds_since(begin_);
    mark();
    events_.back().synchronize();
    for (const at::cuda::CUDAEvent& event : events_) {
      times.begins.push_back(from_milliseconds(events_.front().elapsed_time(event)));
    }
    Nanoseconds recompute{0};
    Nanoseconds transfer{0};
    for (std::size_t s = 0; s < works_.size(); ++s) {
      const Nanoseconds span = times.begins[s + 1] - times.begins[s];
      if (works_[s] == StepWork::recompute) recompute += span;
      if (works_[s] == StepWork::transfer) transfer += span;
    }
    for (const auto& [begin, end] : copies_) transfer += from_milliseconds(begin.elapsed_time(end));
    times.recompute_seconds = seconds(recompute);
    times.transfer_seconds = seconds(transfer);
    times.notes.push_back("times are those of CUDA events, gaps between kernels included, since " +
                          reason_);
    return times;
  }

 private:
  void mark() {
    events_.emplace_back(cudaEventDefault);
    events_.back().record();
  }

  static Nanoseconds from_milliseconds(float milliseconds) {
    return Nanoseconds(static_cast<std::int64_t>(static_cast<double>(milliseconds) * 1e6));
  }

  const TimedCopies& copies_;
  std::string reason_;
  std::vector<StepWork> works_;
  std::vector<at::cuda::CUDAEvent> events_;
  Clock::time_point begin_;
};

class NoTimer final : public StepTimer {
 public:
  void begin(StepWork) override {}
  void end(StepWork) override {}
  [[nodiscard]] StepTimes finish() override { return {}; }
};

}  // namespace

std::unique_ptr<StepTimer> make_cupti_timer(CuptiSession& session, std::size_t steps) {
  return std::make_unique<CuptiTimer>(session, steps);
}

std::unique_ptr<StepTimer> make_event_timer(const TimedCopies& copies, std::string reason,
                                            std::size_t steps) {
  return std::make_unique<EventTimer>(copies, std::move(reason), steps);
}

std::unique_ptr<StepTimer> make_no_timer() { return std::make_unique<NoTimer>(); }

std::vector<Nanoseconds> begins_of(const std::vector<StepActivity>& steps) {
  Nanoseconds next{0};
  for (const StepActivity& step : steps) next = std::max(next, step.end.value_or(Nanoseconds{0}));
  std::vector<Nanoseconds> begins(steps.size() + 1, next);
  for (std::size_t s = steps.size(); s-- > 0;) {
    // A copy on a side stream may begin later than what was launched after it.
    if (steps[s].begin) next = std::min(next, *steps[s].begin);
    begins[s] = next;
  }
  return begins;
}

}  // namespace tidemark
