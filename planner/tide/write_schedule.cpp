#include "write_schedule.hpp"

#include <algorithm>
#include <tuple>
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
        last_use_(trace_.storages.size(), 0),
        moved_(plan.offloads().size()) {
    for (std::size_t s = 0; s < current_.size(); ++s) {
      current_[s] = writer_.static_instance(make_id<StorageId>(s));
    }
    for (std::size_t m = 0; m < moved_.size(); ++m) {
      const Offload& offload = plan.offloads()[m];
      starts_.emplace_back(offload.after, m);
      moves_.emplace_back(offload.freed, Move::free, offload.back, m);
      moves_.emplace_back(offload.fetched, Move::fetch, offload.back, m);
      moves_.emplace_back(offload.back, Move::finish, offload.back, m);
    }
    // What is wanted first is fetched first; room is made before it is taken.
    std::sort(starts_.begin(), starts_.end());
    std::sort(moves_.begin(), moves_.end());
  }

  [[nodiscard]] Schedule write() {
    for (Position p = 0; p <= graph_.end(); ++p) write_position(p);
    return writer_.take();
  }

 private:
  // What happens to an offloaded value before a position, in this order.
  enum class Move : std::uint8_t { finish, free, fetch };
  struct Moved {
    InstanceId original = unnamed_instance;
    InstanceId host = unnamed_instance;
    InstanceId back = unnamed_instance;
    StepId to_host{};
    StepId to_device{};
  };

  void write_position(Position p) {
    for (; next_move_ < moves_.size() && std::get<0>(moves_[next_move_]) == p; ++next_move_) {
      move(std::get<Move>(moves_[next_move_]), std::get<std::size_t>(moves_[next_move_]), p);
    }
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
        if (last_use(v) != static_cast<int>(i) || is_held_on(v, p) || is_moved_at(v, p)) continue;
        writer_.free(std::exchange(current(v), unnamed_instance), Cause::recorded);
      }
    }
    for (; next_start_ < starts_.size() && starts_[next_start_].first == p; ++next_start_) {
      start_offload(starts_[next_start_].second);
    }
  }

  [[nodiscard]] bool is_moved_at(ValueId v, Position p) const {
    auto at = std::lower_bound(starts_.begin(), starts_.end(), std::pair(p, std::size_t{0}));
    for (; at != starts_.end() && at->first == p; ++at) {
      if (plan_.offloads()[at->second].value == v) return true;
    }
    return false;
  }

  void start_offload(std::size_t m) {
    const ValueId v = plan_.offloads()[m].value;
    const auto storage = make_id<StorageId>(static_cast<std::size_t>(v));
    Moved& moved = moved_[m];
    moved.original = std::exchange(current(v), unnamed_instance);
    moved.host = writer_.allocate(storage, writer_.instance(moved.original).bytes,
                                  Place::host_pinned, first_term(v), Cause::offload);
    moved.to_host = writer_.copy_whole(moved.original, moved.host, Queue::offload, Cause::offload);
  }

  void move(Move what, std::size_t m, Position p) {
    const ValueId v = plan_.offloads()[m].value;
    Moved& moved = moved_[m];
    switch (what) {
      case Move::free:
        writer_.add(Wait{.queue = Queue::compute, .event = moved.to_host}, Cause::offload);
        writer_.free(moved.original, Cause::offload);
        return;
      case Move::fetch:
        moved.back = writer_.allocate(make_id<StorageId>(static_cast<std::size_t>(v)),
                                      writer_.instance(moved.host).bytes, Place::device,
                                      first_term(v), Cause::fetch);
        moved.to_device = writer_.copy_whole(moved.host, moved.back, Queue::fetch, Cause::fetch);
        return;
      case Move::finish:
        writer_.add(Wait{.queue = Queue::compute, .event = moved.to_device}, Cause::fetch);
        writer_.free(moved.host, Cause::fetch);
        current(v) = moved.back;
        // Fetched for a use that the plan has given up.
        if (const Presence* at = presence(v, p); !at->is_used && !at->is_held) {
          writer_.free(std::exchange(current(v), unnamed_instance), Cause::fetch);
        }
        return;
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
      const bool is_wanted =
          is_repeated ? is_wanted_at(v, p) : is_held_on(v, p) || is_moved_at(v, p);
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
    return x < p ? Term::recomputed_segment : first_term(v);
  }
  [[nodiscard]] Term first_term(ValueId v) const {
    return terms_.first_run(make_id<StorageId>(static_cast<std::size_t>(v)),
                            make_id<OpId>(static_cast<std::size_t>(graph_.value(v).creator)));
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
  // The offloads of the plan, by their number there, in the order in which they start, and in the
  // order in which the rest happens to them.
  std::vector<Moved> moved_;
  std::vector<std::pair<Position, std::size_t>> starts_;
  std::vector<std::tuple<Position, Move, Position, std::size_t>> moves_;
  std::size_t next_start_ = 0;
  std::size_t next_move_ = 0;
};

}  // namespace

Schedule write_schedule(const Retention& plan, const std::vector<BlockRun>& runs) {
  return Writing(plan, runs).write();
}

}  // namespace tidemark::tide
