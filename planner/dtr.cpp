// Dynamic Tensor Rematerialization (Kirisame, Lyubomirsky, Haan, Brennan, He, Roesch, Chen,
// Tatlock, ICLR 2021, arXiv 2006.09616), replayed over a recorded step: operators run in the
// recorded order; where memory does not suffice, the resident value with the least
//
//   h = (time to make it again + time of its evicted neighbours) / (bytes * staleness)
//
// is evicted, and made again when it is asked for (heuristic h_DTR^eq: neighbours' times come from
// classes of evicted values, united on eviction; a value that is made again leaves its class, whose
// time falls by its own). Values that the program lets go of are evicted at once. Nothing is known
// of the future. What cannot be made again is never evicted.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "budget_ladder.hpp"
#include "run_sequence.hpp"
#include "strategies.hpp"
#include "tide/at.hpp"
#include "tide/step_graph.hpp"

namespace tidemark {

namespace {

using tide::at;
using tide::Operation;
using tide::Position;
using tide::StepGraph;
using tide::ValueId;

constexpr int dtr_rungs = 20;
// A run that takes this many times the recorded step is thrashing.
constexpr std::int64_t most_times = 4;

// By value; the same for every budget.
struct Facts {
  explicit Facts(const StepTrace& trace)
      : graph(trace),
        may_be_evicted(trace.storages.size(), 0),
        let_go_after(trace.storages.size(), -1),
        readers(trace.storages.size()) {
    for (Position p = 0; p <= graph.end(); ++p) {
      for (const ValueId v : graph.at(p).operands) {
        let_go_after[at(v)] = p;
        if (p < graph.end()) readers[at(v)].push_back(p);
      }
      for (const ValueId v : graph.at(p).creates) {
        let_go_after[at(v)] = p;
        may_be_evicted[at(v)] =
            graph.at(p).again_until == graph.end() && graph.value(v).writers.empty() ? 1 : 0;
      }
    }
    // The program holds a value until the recorded step released it.
    for (std::size_t s = 0; s < trace.storages.size(); ++s) {
      const std::optional<OpId> freed = trace.storages[s].freed_after;
      if (freed && let_go_after[s] >= 0 && let_go_after[s] < graph.end()) {
        let_go_after[s] = std::max(let_go_after[s], static_cast<Position>(*freed));
      }
    }
    let_go.resize(at(graph.end()) + 1);
    for (std::size_t s = 0; s < let_go_after.size(); ++s) {
      if (let_go_after[s] >= 0) let_go[at(let_go_after[s])].push_back(static_cast<ValueId>(s));
    }
  }

  StepGraph graph;
  std::vector<char> may_be_evicted;
  std::vector<Position> let_go_after;
  std::vector<std::vector<ValueId>> let_go;  // by operator
  std::vector<std::vector<Position>> readers;
};

class Replay {
 public:
  Replay(const Facts& facts, Bytes budget)
      : facts_(facts),
        graph_(facts.graph),
        budget_(budget),
        live_(graph_.static_bytes()),
        may_be_evicted_(facts.may_be_evicted),
        values_(facts.may_be_evicted.size()),
        parent_(values_.size()),
        class_time_(values_.size(), 0) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }

  // Absent: memory did not suffice, or it thrashed.
  [[nodiscard]] std::optional<std::vector<SequenceRun>> run() {
    for (position_ = 0; position_ < graph_.end(); ++position_) {
      if (!run_operator(position_, {})) return std::nullopt;
      for (const ValueId v : facts_.let_go[at(position_)]) let_go(v);
    }
    for (const ValueId v : graph_.at(graph_.end()).operands) {
      if (!bring(v)) return std::nullopt;
      ++value(v).locks;
    }
    return std::move(sequence_);
  }

 private:
  struct Value {
    bool is_made = false;  // its operator has run once
    bool is_resident = false;
    bool is_let_go = false;  // by the program
    int locks = 0;
    std::int64_t last_use = 0;
  };

  [[nodiscard]] Value& value(ValueId v) { return values_[at(v)]; }
  [[nodiscard]] std::int64_t time_of(ValueId v) const {
    return graph_.at(graph_.value(v).creator).nanoseconds;
  }

  [[nodiscard]] std::int32_t class_of(std::int32_t v) {
    while (parent_[at(v)] != v) v = parent_[at(v)] = parent_[at(parent_[at(v)])];
    return v;
  }

  // The evicted values next to it: what it is made from, and what is made from it.
  template <typename Visit>
  void for_each_evicted_neighbour(ValueId v, Visit&& visit) {
    for (const ValueId operand : graph_.at(graph_.value(v).creator).operands) {
      if (value(operand).is_made && !value(operand).is_resident) visit(operand);
    }
    for (const Position reader : facts_.readers[at(v)]) {
      for (const ValueId made : graph_.at(reader).creates) {
        if (value(made).is_made && !value(made).is_resident) visit(made);
      }
    }
  }

  // By its own time alone: no more than its score.
  [[nodiscard]] double least_score(ValueId v) const {
    const auto staleness =
        static_cast<double>(std::max<std::int64_t>(clock_ - values_[at(v)].last_use, 1));
    return static_cast<double>(time_of(v)) /
           (static_cast<double>(graph_.value(v).bytes) * staleness);
  }

  [[nodiscard]] double score(ValueId v) {
    neighbours_.clear();
    for_each_evicted_neighbour(v, [&](ValueId u) { neighbours_.push_back(class_of(u)); });
    std::sort(neighbours_.begin(), neighbours_.end());
    neighbours_.erase(std::unique(neighbours_.begin(), neighbours_.end()), neighbours_.end());
    auto time = static_cast<double>(time_of(v));
    for (const std::int32_t neighbour : neighbours_) time += class_time_[at(neighbour)];
    const auto staleness =
        static_cast<double>(std::max<std::int64_t>(clock_ - value(v).last_use, 1));
    return time / (static_cast<double>(graph_.value(v).bytes) * staleness);
  }

  void evict(ValueId v) {
    value(v).is_resident = false;
    live_ -= graph_.value(v).bytes;
    // A class of its own; an older one that it was part of lost its time when it was made again.
    const auto own = static_cast<std::int32_t>(parent_.size());
    parent_.push_back(own);
    class_time_.push_back(static_cast<double>(time_of(v)));
    parent_[at(v)] = own;
    for_each_evicted_neighbour(v, [&](ValueId u) {
      const std::int32_t a = class_of(v);
      const std::int32_t b = class_of(u);
      if (a == b) return;
      parent_[at(b)] = a;
      class_time_[at(a)] += class_time_[at(b)];
    });
    candidates_.erase(std::find(candidates_.begin(), candidates_.end(), v));
  }

  [[nodiscard]] bool may_go(ValueId v) const {
    return values_[at(v)].locks == 0 && graph_.value(v).bytes > 0;
  }

  // The least score; of equal ones the first by id. -1: nothing may go. Few scores have to be
  // worked out: whatever would be above the best one by its own time alone is passed over.
  [[nodiscard]] ValueId least_valued() {
    ValueId worst = -1;
    double least = std::numeric_limits<double>::infinity();
    for (const ValueId v : candidates_) {
      if (!may_go(v) || least_score(v) >= least) continue;
      worst = v;
      least = least_score(v);
    }
    if (worst < 0) return worst;
    least = score(worst);
    for (const ValueId v : candidates_) {
      if (v == worst || !may_go(v) || least_score(v) > least) continue;
      const double now = score(v);
      if (std::pair(least, worst) <= std::pair(now, v)) continue;
      worst = v;
      least = now;
    }
    return worst;
  }

  [[nodiscard]] bool make_room(Bytes bytes) {
    while (live_ + bytes > budget_) {
      const ValueId worst = least_valued();
      if (worst < 0) return false;
      evict(worst);
    }
    return true;
  }

  // What the program lets go of is evicted at once, or banished if it cannot be made again.
  void let_go(ValueId v) {
    value(v).is_let_go = true;
    release(v);
  }

  void release(ValueId v) {
    const Value& state = value(v);
    if (!state.is_let_go || !state.is_resident || state.locks > 0) return;
    if (may_be_evicted_[at(v)] != 0) {
      evict(v);
    } else {
      banish(v);
    }
  }

  // Gone for good: what was made from it can no longer be made again, and stays while it is needed.
  // Not while something evicted needs it.
  void banish(ValueId v) {
    std::vector<ValueId> lost{v};
    std::vector<ValueId> pinned;
    for (std::size_t next = 0; next < lost.size(); ++next) {
      for (const Position reader : facts_.readers[at(lost[next])]) {
        for (const ValueId made : graph_.at(reader).creates) {
          const bool is_settled = !value(made).is_made || may_be_evicted_[at(made)] == 0;
          if (is_settled || std::find(lost.begin(), lost.end(), made) != lost.end()) continue;
          if (!value(made).is_resident && !value(made).is_let_go) return;
          (value(made).is_resident ? pinned : lost).push_back(made);
        }
      }
    }
    value(v).is_resident = false;
    live_ -= graph_.value(v).bytes;
    for (const ValueId made : lost) may_be_evicted_[at(made)] = 0;
    for (const ValueId made : pinned) {
      if (std::exchange(may_be_evicted_[at(made)], 0) == 0) continue;
      candidates_.erase(std::find(candidates_.begin(), candidates_.end(), made));
    }
  }

  void become_resident(ValueId v) {
    Value& state = value(v);
    if (state.is_resident) return;
    if (state.is_made) class_time_[at(class_of(v))] -= static_cast<double>(time_of(v));
    state.is_made = true;
    state.is_resident = true;
    live_ += graph_.value(v).bytes;
    if (may_be_evicted_[at(v)] != 0) candidates_.push_back(v);
  }

  [[nodiscard]] bool bring(ValueId v) {
    return value(v).is_resident || run_operator(graph_.value(v).creator, v);
  }

  // `wanted`: the value for whose sake it runs again.
  [[nodiscard]] bool run_operator(Position p, std::optional<ValueId> wanted) {
    constexpr int deepest = 5000;
    const Operation& operation = graph_.at(p);
    if (wanted && operation.again_until != graph_.end()) return false;
    if (++depth_ > deepest) return false;
    for (const ValueId v : operation.operands) {
      if (!bring(v)) return false;
      ++value(v).locks;
    }
    Bytes made = operation.workspace;
    for (const ValueId v : operation.creates) made += graph_.value(v).bytes;
    if (!make_room(made) || clock_ > most_times * graph_.total_nanoseconds()) return false;
    clock_ += operation.nanoseconds;
    SequenceRun run{.op = make_id<OpId>(at(p)), .is_repeated = wanted.has_value(), .makes = {}};
    for (const ValueId v : operation.creates) {
      value(v).last_use = clock_;
      const bool is_wanted = !wanted || v == *wanted || !value(v).is_let_go;
      if (!is_wanted || value(v).is_resident) continue;
      become_resident(v);
      run.makes.push_back(make_id<StorageId>(at(v)));
    }
    sequence_.push_back(std::move(run));
    for (const ValueId v : operation.operands) {
      value(v).last_use = clock_;
      --value(v).locks;
      release(v);  // brought back for this operator alone
    }
    --depth_;
    return true;
  }

  const Facts& facts_;
  const StepGraph& graph_;
  Bytes budget_;
  Bytes live_;
  Position position_ = 0;
  std::int64_t clock_ = 0;
  int depth_ = 0;
  std::vector<char> may_be_evicted_;  // by value
  std::vector<Value> values_;
  std::vector<ValueId> candidates_;   // resident, and can be made again
  std::vector<std::int32_t> parent_;  // union-find; values first, then classes
  std::vector<double> class_time_;    // by representative: of its evicted values
  std::vector<std::int32_t> neighbours_;
  std::vector<SequenceRun> sequence_;
};

class Dtr final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "dtr"; }
  [[nodiscard]] std::string_view description() const override {
    return "evicts by time, bytes and staleness, as it goes (Dynamic Tensor Rematerialization)";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    const Facts facts(trace);
    Proposal proposal;
    for (const Bytes budget : budget_ladder(trace, dtr_rungs)) {
      if (request.is_stopped()) {
        proposal.truncated = true;
        break;
      }
      if (const auto sequence = Replay(facts, budget).run()) {
        proposal.schedules.push_back(write_sequence(trace, request.runs, *sequence));
      }
    }
    return proposal;
  }
};

}  // namespace

const Planner& dtr_planner() {
  static const Dtr planner;
  return planner;
}

}  // namespace tidemark
