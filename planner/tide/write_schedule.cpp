#include "write_schedule.hpp"

#include <algorithm>
#include <utility>

#include "../instance_terms.hpp"
#include "schedule_writer.hpp"

namespace tidemark::tide {

namespace {

class Writing {
 public:
  Writing(const Retention& plan, const std::vector<BlockRun>& runs)
      : plan_(plan),
        graph_(plan.graph()),
        trace_(graph_.trace()),
        terms_(trace_, runs),
        writer_(trace_),
        current_(trace_.storages.size(), unnamed_instance),
        last_use_(trace_.storages.size(), 0) {
    for (std::size_t s = 0; s < current_.size(); ++s) {
      current_[s] = writer_.static_instance(make_id<StorageId>(s));
    }
  }

  [[nodiscard]] Schedule write() {
    for (Position p = 0; p <= graph_.end(); ++p) write_position(p);
    return writer_.take();
  }

 private:
  void write_position(Position p) {
    std::vector<Position> steps = plan_.repeated_at(p);
    if (p < graph_.end()) steps.push_back(p);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (const ValueId v : graph_.at(steps[i]).operands) last_use(v) = static_cast<int>(i);
    }
    // The end of the step uses what outlives it.
    if (p == graph_.end()) {
      for (const ValueId v : graph_.at(p).operands) last_use(v) = static_cast<int>(steps.size());
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
      run(steps[i], p);
      for (const ValueId v : graph_.at(steps[i]).operands) {
        if (last_use(v) != static_cast<int>(i) || is_held_on(v, p)) continue;
        writer_.free(std::exchange(current(v), unnamed_instance), Cause::recorded);
      }
    }
  }

  void run(Position x, Position p) {
    const Op& op = trace_.ops[static_cast<std::size_t>(x)];
    const bool is_repeated = x < p;
    Run run{
        .op = make_id<OpId>(static_cast<std::size_t>(x)), .reads = {}, .writes = {}, .creates = {}};
    for (const StorageId id : op.reads) run.reads.push_back(current_[index(id)]);
    for (const StorageId id : op.writes) run.writes.push_back(current_[index(id)]);
    for (const StorageId id : op.creates) {
      const auto v = static_cast<ValueId>(id);
      const bool is_wanted = is_repeated ? is_wanted_at(v, p) : is_held_on(v, p);
      if (is_wanted) {
        current(v) =
            writer_.name(id, trace_.storages[index(id)].bytes, Place::device, term(v, x, p));
      }
      run.creates.push_back(is_wanted ? current(v) : unnamed_instance);
    }
    writer_.add(std::move(run), is_repeated ? Cause::recompute : Cause::recorded);
  }

  [[nodiscard]] const Presence* presence(ValueId v, Position p) const {
    const std::vector<Presence>& all = plan_.presences(v);
    const auto at = std::lower_bound(all.begin(), all.end(), p,
                                     [](const Presence& a, Position q) { return a.at < q; });
    return at != all.end() && at->at == p ? &*at : nullptr;
  }
  [[nodiscard]] bool is_held_on(ValueId v, Position p) const {
    const Presence* at = presence(v, p);
    return at != nullptr && at->is_held;
  }
  // A repeated operator's result is wanted where it is not there anyway and is used or held on.
  [[nodiscard]] bool is_wanted_at(ValueId v, Position p) const {
    const Presence* at = presence(v, p);
    return at != nullptr && (at->is_used || at->is_held) && plan_.held_into(v, p) < 0;
  }

  [[nodiscard]] Term term(ValueId v, Position x, Position p) const {
    if (x < p) return Term::recomputed_segment;
    return terms_.first_run(make_id<StorageId>(static_cast<std::size_t>(v)),
                            make_id<OpId>(static_cast<std::size_t>(x)));
  }

  [[nodiscard]] InstanceId& current(ValueId v) { return current_[static_cast<std::size_t>(v)]; }
  [[nodiscard]] int& last_use(ValueId v) { return last_use_[static_cast<std::size_t>(v)]; }

  const Retention& plan_;
  const StepGraph& graph_;
  const StepTrace& trace_;
  InstanceTerms terms_;
  ScheduleWriter writer_;
  std::vector<InstanceId> current_;  // by storage: the instance that is alive
  std::vector<int> last_use_;        // by storage, within a position
};

}  // namespace

Schedule write_schedule(const Retention& plan, const std::vector<BlockRun>& runs) {
  return Writing(plan, runs).write();
}

}  // namespace tidemark::tide
