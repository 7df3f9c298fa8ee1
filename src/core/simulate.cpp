// The one simulator: replays a schedule's bytes and clocks.
#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "allocator_replay.hpp"
#include "tidemark/prediction.hpp"

namespace tidemark {

namespace {

class Simulation {
 public:
  Simulation(const StepTrace& trace, const Schedule& schedule, ReplayWatcher* watcher)
      : trace_(trace),
        schedule_(schedule),
        watcher_(watcher),
        step_end_(schedule.steps.size(), 0.0) {
    prediction_.timeline.live_bytes.reserve(schedule.steps.size());
    prediction_.timeline.host_bytes.reserve(schedule.steps.size());
    for (std::int32_t i = 0; i < schedule.initial_instances; ++i) {
      add(schedule.instances[static_cast<std::size_t>(i)]);
    }
    prediction_.figures.static_bytes = live_;
    prediction_.figures.live_peak_bytes = live_;
    prediction_.figures.peak_breakdown = by_term_;
    has_times_ = std::any_of(trace.ops.begin(), trace.ops.end(),
                             [](const Op& op) { return op.duration.count() > 0; });
  }

  [[nodiscard]] Prediction run() {
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
      cause_ = schedule_.steps[step_].cause;
      std::visit([&](const auto& action) { apply(action); }, schedule_.steps[step_].action);
    }
    finish();
    return std::move(prediction_);
  }

 private:
  [[nodiscard]] bool is_counted(const Instance& instance) const {
    return instance.storage == no_storage || is_on_device(trace_, instance.storage);
  }

  void add(const Instance& instance) {
    if (!is_counted(instance)) return;
    if (watcher_ != nullptr) watcher_->came(instance);
    if (instance.place == Place::device) {
      live_ += instance.bytes;
      by_term_[static_cast<std::size_t>(instance.term)] += instance.bytes;
    } else if (instance.place != Place::peer) {
      host_ += instance.bytes;
    }
  }

  void remove(const Instance& instance) {
    if (!is_counted(instance)) return;
    if (watcher_ != nullptr) watcher_->went(instance);
    if (instance.place == Place::device) {
      live_ -= instance.bytes;
      by_term_[static_cast<std::size_t>(instance.term)] -= instance.bytes;
    } else if (instance.place != Place::peer) {
      host_ -= instance.bytes;
    }
  }

  // The level during the step; the first step that reaches the peak names it.
  void sample(std::optional<OpId> op) {
    StepFigures& figures = prediction_.figures;
    prediction_.timeline.live_bytes.push_back(live_);
    prediction_.timeline.host_bytes.push_back(host_);
    figures.host_peak_bytes = std::max(figures.host_peak_bytes, host_);
    if (watcher_ != nullptr) watcher_->during(step_, live_, host_);
    if (live_ <= figures.live_peak_bytes) return;
    figures.live_peak_bytes = live_;
    figures.peak_breakdown = by_term_;
    figures.peak_op = op;
    prediction_.peak_step = step_;
  }

  [[nodiscard]] Term term_of_unnamed(const Op& op) const {
    if (cause_ == Cause::recompute) return Term::recomputed_segment;
    if (op.phase == Phase::optimizer) return Term::optimizer_step;
    return op.phase == Phase::forward ? Term::activations : Term::activation_gradients;
  }

  void apply(const Run& run) {
    const Op& op = trace_.ops[index(run.op)];
    const OpForm form = form_of(op, run.gradients);
    for (std::size_t i = 0; i < run.creates.size(); ++i) {
      if (run.creates[i] != unnamed_instance) {
        add(schedule_.instances[index(run.creates[i])]);
      } else if (form.makes(op.creates[i])) {
        passing_.push_back({.storage = op.creates[i],
                            .number = 0,
                            .bytes = trace_.storages[index(op.creates[i])].bytes,
                            .place = Place::device,
                            .term = term_of_unnamed(op)});
      }
    }
    if (form.workspace_bytes != 0) {
      passing_.push_back({.storage = no_storage,
                          .number = 0,
                          .bytes = form.workspace_bytes,
                          .place = Place::device,
                          .term = Term::workspace});
    }
    for (const Instance& instance : passing_) add(instance);
    sample(run.op);
    for (const Instance& instance : passing_) remove(instance);
    passing_.clear();
    advance(Queue::compute, seconds(op.duration));
    if (cause_ == Cause::recompute) recompute_seconds_ += seconds(op.duration);
  }

  void apply(const Allocate& allocate) {
    add(schedule_.instances[index(allocate.instance)]);
    sample(std::nullopt);
    advance(Queue::compute, 0);
  }

  void apply(const Free& free) {
    sample(std::nullopt);
    remove(schedule_.instances[index(free.instance)]);
    advance(Queue::compute, 0);
  }

  void apply(const Copy& copy) {
    sample(std::nullopt);
    // A side queue's copy needs what compute has made so far.
    double& clock = clocks_[static_cast<std::size_t>(copy.queue)];
    clock = std::max(clock, clocks_[static_cast<std::size_t>(Queue::compute)]);
    transfer(copy.queue, copy.bytes, bandwidth(copy));
  }

  void apply(const Collective& collective) {
    sample(std::nullopt);
    transfer(Queue::compute, schedule_.instances[index(collective.output)].bytes,
             trace_.device.copy_bytes_per_second);
  }

  void apply(const Wait& wait) {
    sample(std::nullopt);
    double& clock = clocks_[static_cast<std::size_t>(wait.queue)];
    const double begin = clock;
    clock = std::max(clock, step_end_[index(wait.event)]);
    step_end_[step_] = clock;
    if (watcher_ != nullptr) watcher_->done(step_, wait.queue, begin, clock);
  }

  [[nodiscard]] std::optional<double> bandwidth(const Copy& copy) const {
    const Place from = schedule_.instances[index(copy.from)].place;
    const Place to = schedule_.instances[index(copy.to)].place;
    if (const auto& rates = trace_.device.transfer_rates) {
      if (from == Place::host_pinned) return rates->pinned_to_device;
      if (from == Place::host_pageable) return rates->pageable_to_device;
      if (to == Place::host_pinned) return rates->pinned_to_host;
      if (to == Place::host_pageable) return rates->pageable_to_host;
    }
    return trace_.device.copy_bytes_per_second;
  }

  void transfer(Queue queue, Bytes bytes, std::optional<double> bandwidth) {
    prediction_.figures.transfer_bytes += bytes;
    if (!bandwidth) has_transfer_times_ = false;
    const double duration = bandwidth ? static_cast<double>(bytes) / *bandwidth : 0;
    transfer_seconds_ += duration;
    advance(queue, duration);
  }

  void advance(Queue queue, double duration) {
    double& clock = clocks_[static_cast<std::size_t>(queue)];
    const double begin = clock;
    clock += duration;
    step_end_[step_] = clock;
    if (watcher_ != nullptr) watcher_->done(step_, queue, begin, clock);
  }

  void finish() {
    StepFigures& figures = prediction_.figures;
    Bytes largest = -1;
    for (std::size_t t = 0; t < term_count; ++t) {
      const bool is_static = t == static_cast<std::size_t>(Term::static_memory);
      if (is_static || figures.peak_breakdown[t] <= largest) continue;
      largest = figures.peak_breakdown[t];
      figures.peak_term = static_cast<Term>(t);
    }
    if (!has_times_) return;
    figures.step_seconds = *std::max_element(clocks_.begin(), clocks_.end());
    figures.recompute_seconds = recompute_seconds_;
    if (has_transfer_times_) figures.transfer_seconds = transfer_seconds_;
  }

  const StepTrace& trace_;
  const Schedule& schedule_;
  ReplayWatcher* watcher_;
  Prediction prediction_;
  std::size_t step_ = 0;
  Cause cause_ = Cause::recorded;
  Bytes live_ = 0;
  Bytes host_ = 0;
  std::array<Bytes, term_count> by_term_{};
  std::array<double, queue_count> clocks_{};
  std::vector<double> step_end_;
  std::vector<Instance> passing_;  // what dies at the end of the running operator
  double recompute_seconds_ = 0;
  double transfer_seconds_ = 0;
  bool has_times_ = false;
  bool has_transfer_times_ = true;
};

}  // namespace

Prediction simulate(const StepTrace& trace, const Schedule& schedule,
                    const SimulateOptions& options) {
  Prediction prediction = Simulation(trace, schedule, nullptr).run();
  prediction.figures.pinned_reserved_bytes = replay_pinned_pool(trace, schedule);
  if (auto levels = replay_allocator(trace, schedule, options)) {
    prediction.figures.allocated_peak_bytes = levels->allocated_peak;
    prediction.figures.reserved_peak_bytes = levels->reserved_peak;
    prediction.figures.first_reserved_peak_bytes = levels->first_reserved_peak;
    prediction.timeline.allocated_bytes = std::move(levels->allocated);
    prediction.timeline.reserved_bytes = std::move(levels->reserved);
    prediction.out_of_memory = std::move(levels->out_of_memory);
  }
  return prediction;
}

void replay(const StepTrace& trace, const Schedule& schedule, ReplayWatcher& watcher) {
  (void)Simulation(trace, schedule, &watcher).run();
}

}  // namespace tidemark
