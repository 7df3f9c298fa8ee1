// When each byte of a schedule is needed, for placements.
#include <cstddef>
#include <utility>
#include <variant>

#include "tidemark/placement.hpp"

namespace tidemark {

namespace {

class LifetimeCollector {
 public:
  LifetimeCollector(const StepTrace& trace, const Schedule& schedule, Bytes alignment)
      : trace_(trace),
        schedule_(schedule),
        alignment_(alignment),
        begin_(schedule.instances.size(), -1) {}

  std::vector<Lifetime> collect() {
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
      std::visit([&](const auto& action) { apply(action); }, schedule_.steps[step_].action);
    }
    for (std::size_t i = 0; i < begin_.size(); ++i) end(i);
    return std::move(lifetimes_);
  }

 private:
  [[nodiscard]] Bytes aligned(Bytes bytes) const {
    return (bytes + alignment_ - 1) / alignment_ * alignment_;
  }
  void begin(InstanceId id) {
    if (schedule_.instances[index(id)].place == Place::device) {
      begin_[index(id)] = static_cast<std::int64_t>(step_);
    }
  }
  void end(std::size_t instance) {
    if (begin_[instance] < 0) return;
    lifetimes_.push_back({.begin = begin_[instance],
                          .end = static_cast<std::int64_t>(step_),
                          .bytes = aligned(schedule_.instances[instance].bytes)});
    begin_[instance] = -1;
  }
  void during_step(Bytes bytes) {
    if (bytes == 0) return;
    const auto step = static_cast<std::int64_t>(step_);
    lifetimes_.push_back({.begin = step, .end = step + 1, .bytes = aligned(bytes)});
  }
  void apply(const Run& run) {
    const Op& op = trace_.ops[index(run.op)];
    const OpForm form = form_of(op, run.gradients);
    during_step(form.workspace_bytes);
    for (std::size_t i = 0; i < run.creates.size(); ++i) {
      if (run.creates[i] != unnamed_instance) {
        begin(run.creates[i]);
      } else if (form.makes(op.creates[i])) {
        during_step(trace_.storages[index(op.creates[i])].bytes);
      }
    }
  }
  void apply(const Allocate& allocate) { begin(allocate.instance); }
  void apply(const Free& free) { end(index(free.instance)); }
  void apply(const Copy&) {}
  void apply(const Wait&) {}
  void apply(const Collective&) {}

  const StepTrace& trace_;
  const Schedule& schedule_;
  Bytes alignment_;
  std::vector<std::int64_t> begin_;
  std::vector<Lifetime> lifetimes_;
  std::size_t step_ = 0;
};

}  // namespace

std::vector<Lifetime> device_lifetimes(const StepTrace& trace, const Schedule& schedule,
                                       Bytes alignment) {
  return LifetimeCollector(trace, schedule, alignment).collect();
}

}  // namespace tidemark
