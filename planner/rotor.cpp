// Rotor: Beaumont, Eyraud-Dubois, Herrmann, Joly, Shilova, Optimal checkpointing for heterogeneous
// chains: how to train deep neural networks with limited memory, arXiv 1911.13214. A dynamic
// programme over a chain of stages, each with its own sizes and times. A stage's forward keeps
// nothing, its input, or everything that its backward needs; what is kept stays until its backward
// (persistent schedules, among which it is optimal). With m memory_slots of memory beside the input
// of s:
//
//   C(m,s,t) = least time of forward s..t and backward t..s
//            = min(forward s + backward s + C(m - kept(s), s+1, t),                   keep all of s
//                  min over s' of forward s..s'-1 + C(m - input(s'), s', t) + C(m, s, s'-1))
//
// The stages are the blocks, what lies before, between and behind them; bytes are those of the
// recorded step, memory comes in 500 slots, sizes are rounded up. What breaks the chain (a value
// that the backward of another stage reads) is kept throughout.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "budget_ladder.hpp"
#include "recompute_once.hpp"
#include "strategies.hpp"
#include "tide/at.hpp"

namespace tidemark {

namespace {

using tide::at;
using tide::Position;
using tide::StepGraph;
using tide::ValueId;

constexpr int memory_slots = 500;
constexpr int rotor_rungs = 40;
constexpr int most_stages = 130;  // the programme's work grows with the cube
constexpr double impossible = std::numeric_limits<double>::infinity();

// Forward operators [first, last] and the positions of backward [backward_first, backward_last]
// that belong to them; an empty backward has backward_last < backward_first.
struct Stage {
  Position first = 0;
  Position last = 0;
  Position backward_first = 0;
  Position backward_last = -1;
};

// The step as a chain: what each stage needs, in bytes.
class Chain {
 public:
  Chain(const StepTrace& trace, const PlanRequest& request) : once_(trace, request) {
    cut_forward(request.runs);
    cut_backward(trace);
    find_crossing();
    for (std::int32_t s = 0; s < stage_count(); ++s) measure(s);
  }

  [[nodiscard]] std::int32_t stage_count() const {
    return static_cast<std::int32_t>(stages_.size());
  }
  [[nodiscard]] const Stage& stage(std::int32_t s) const { return stages_[at(s)]; }
  [[nodiscard]] const RecomputeOnce& once() const { return once_; }

  struct Needs {
    double forward_ns = 0;
    double backward_ns = 0;
    Bytes forward_all = 0;   // the highest above its input, keeping everything for backward
    Bytes forward_none = 0;  // the same, keeping what later stages read
    Bytes backward = 0;      // the highest in backward above its input, gradients included
    Bytes gradients = 0;     // of later stages, alive where its backward begins
    Bytes kept = 0;          // by keeping everything, beyond its input
    bool may_repeat = true;
  };
  [[nodiscard]] const Needs& needs(std::int32_t s) const { return needs_[at(s)]; }
  // Of what crosses into stage `to` and did not cross into stage `from`.
  [[nodiscard]] Bytes input_beyond(std::int32_t from, std::int32_t to) const {
    return input_beyond_[at(from)][at(to)];
  }
  // Held from its first creation to its last use, whatever the plan.
  [[nodiscard]] bool is_pinned(ValueId v) const { return is_pinned_[at(v)] != 0; }
  [[nodiscard]] Bytes pinned_bytes() const { return pinned_bytes_; }

 private:
  [[nodiscard]] const StepGraph& graph() const { return once_.graph(); }
  [[nodiscard]] Bytes bytes(ValueId v) const { return graph().value(v).bytes; }

  void cut_forward(const std::vector<BlockRun>& runs) {
    std::vector<Position> ends;
    for (const BlockRun& run : runs) {
      if (run.blocks.front().first > OpId{0}) {
        ends.push_back(static_cast<Position>(run.blocks.front().first) - 1);
      }
      for (const Block& block : run.blocks) ends.push_back(static_cast<Position>(block.last));
    }
    ends.push_back(once_.backward() - 1);
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    const std::size_t joined = (ends.size() + most_stages - 1) / most_stages;
    Position first = 0;
    for (std::size_t e = joined - 1; e < ends.size() + joined - 1; e += joined) {
      const Position last = ends[std::min(e, ends.size() - 1)];
      stages_.push_back({.first = first, .last = last});
      first = last + 1;
    }
    stage_of_.resize(at(once_.backward()));
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      for (Position p = stages_[s].first; p <= stages_[s].last; ++p) {
        stage_of_[at(p)] = static_cast<std::int32_t>(s);
      }
    }
  }

  // Backward goes through the stages in reverse; an operator whose stage is over belongs to the
  // present one.
  void cut_backward(const StepTrace& trace) {
    std::int32_t present = stage_count() - 1;
    Position p = once_.backward();
    stages_.back().backward_first = p;
    for (; p < graph().end() && trace.ops[at(p)].phase == Phase::backward; ++p) {
      std::int32_t stage = present;
      for (const OpId forward : trace.ops[at(p)].forward_ops) {
        if (index(forward) >= stage_of_.size()) continue;
        stage = std::min(stage, stage_of_[index(forward)]);
      }
      while (present > stage) {
        stages_[at(present)].backward_last = p - 1;
        stages_[at(--present)].backward_first = p;
      }
    }
    stages_[at(present)].backward_last = p - 1;
    backward_end_ = p;
    while (--present >= 0) stages_[at(present)] = with_empty_backward(stages_[at(present)], p);
  }

  static Stage with_empty_backward(Stage stage, Position p) {
    stage.backward_first = p;
    stage.backward_last = p - 1;
    return stage;
  }

  [[nodiscard]] std::int32_t maker(ValueId v) const {
    return stage_of_[at(graph().value(v).creator)];
  }
  // A value crosses into the stages after its maker up to the last that reads it in forward.
  [[nodiscard]] bool crosses_into(ValueId v, std::int32_t s) const {
    return maker(v) < s && once_.last_use_in_forward(v) >= stages_[at(s)].first;
  }

  void find_crossing() {
    const auto values = at(graph().value_count());
    is_pinned_.assign(values, 0);
    is_needed_.assign(values, 0);
    std::int32_t s = stage_count() - 1;
    for (Position p = once_.backward(); p <= graph().end(); ++p) {
      while (s > 0 && p > stages_[at(s)].backward_last) --s;
      for (const ValueId v : graph().at(p).operands) {
        if (!once_.is_made_in_forward(v)) continue;
        is_needed_[at(v)] = 1;
        const bool is_there = p < backward_end_ && (maker(v) == s || crosses_into(v, s));
        if (!is_there || !once_.may_be_dropped(v)) is_pinned_[at(v)] = 1;
      }
    }
    for (ValueId v = 0; v < graph().value_count(); ++v) {
      if (!once_.is_made_in_forward(v)) continue;
      const auto& writers = graph().value(v).writers;
      const bool is_overwritten_elsewhere = std::any_of(
          writers.begin(), writers.end(),
          [&](Position w) { return w >= once_.backward() || stage_of_[at(w)] != maker(v); });
      if (is_overwritten_elsewhere) is_pinned_[at(v)] = 1;
      if (is_pinned(v)) pinned_bytes_ += bytes(v);
    }
    const auto count = at(stage_count());
    input_beyond_.assign(count, std::vector<Bytes>(count, 0));
    for (ValueId v = 0; v < graph().value_count(); ++v) {
      if (!once_.is_made_in_forward(v) || is_pinned(v)) continue;
      for (std::int32_t to = maker(v) + 1; to < stage_count() && crosses_into(v, to); ++to) {
        for (std::int32_t from = 0; from <= maker(v); ++from) {
          input_beyond_[at(from)][at(to)] += bytes(v);
        }
      }
    }
  }

  void measure(std::int32_t s) {
    Needs& needs = needs_.emplace_back();
    const Stage& stage = stages_[at(s)];
    measure_forward(s, needs);
    Bytes level = 0;
    const auto is_last_use = [&](ValueId v, Position p) { return last_use(v) == p; };
    // Gradients of later stages, and what this stage keeps.
    for (ValueId v = 0; v < graph().value_count(); ++v) {
      if (graph().is_static(v) || graph().value(v).creator < once_.backward()) continue;
      const bool is_alive =
          graph().value(v).creator < stage.backward_first && last_use(v) >= stage.backward_first;
      if (is_alive) needs.gradients += bytes(v);
    }
    level = needs.gradients + needs.kept;
    needs.backward = level;
    for (Position p = stage.backward_first; p <= stage.backward_last; ++p) {
      const tide::Operation& operation = graph().at(p);
      needs.backward_ns += static_cast<double>(operation.nanoseconds);
      for (const ValueId v : operation.creates) level += bytes(v);
      needs.backward = std::max(needs.backward, level + operation.workspace);
      for (const auto* values : {&operation.operands, &operation.creates}) {
        for (const ValueId v : *values) {
          const bool is_ours = !once_.is_made_in_forward(v) || (maker(v) == s && !is_pinned(v));
          if (is_ours && is_last_use(v, p)) level -= bytes(v);
        }
      }
    }
  }

  [[nodiscard]] Position last_use(ValueId v) const {
    if (last_use_.empty()) {
      last_use_.assign(at(graph().value_count()), -1);
      for (Position p = 0; p <= graph().end(); ++p) {
        for (const auto* values : {&graph().at(p).operands, &graph().at(p).creates}) {
          for (const ValueId u : *values) last_use_[at(u)] = p;
        }
      }
    }
    return last_use_[at(v)];
  }

  void measure_forward(std::int32_t s, Needs& needs) const {
    const Stage& stage = stages_[at(s)];
    Bytes with_all = 0;
    Bytes with_none = 0;
    for (Position p = stage.first; p <= stage.last; ++p) {
      const tide::Operation& operation = graph().at(p);
      needs.forward_ns += static_cast<double>(operation.nanoseconds);
      if (operation.again_until != graph().end()) needs.may_repeat = false;
      for (const ValueId v : operation.creates) {
        if (is_pinned(v)) continue;
        with_all += bytes(v);
        with_none += bytes(v);
      }
      needs.forward_all = std::max(needs.forward_all, with_all + operation.workspace);
      needs.forward_none = std::max(needs.forward_none, with_none + operation.workspace);
      for (const auto* values : {&operation.operands, &operation.creates}) {
        for (const ValueId v : *values) {
          if (is_pinned(v) || maker(v) != s) continue;
          const bool is_over =
              std::max(once_.last_use_in_forward(v), graph().value(v).creator) == p;
          if (!is_over) continue;
          with_none -= bytes(v);
          if (is_needed_[at(v)] == 0) with_all -= bytes(v);
        }
      }
    }
    needs.kept = with_all;
  }

  RecomputeOnce once_;
  std::vector<Stage> stages_;
  std::vector<std::int32_t> stage_of_;  // by forward operator
  Position backward_end_ = 0;           // where the optimizer begins
  std::vector<char> is_pinned_;         // by value
  std::vector<char> is_needed_;         // by value: read after forward
  Bytes pinned_bytes_ = 0;
  std::vector<std::vector<Bytes>> input_beyond_;
  std::vector<Needs> needs_;
  mutable std::vector<Position> last_use_;
};

// The programme's table, and the order of stages that it finds.
class Programme {
 public:
  Programme(const Chain& chain, Bytes most) : chain_(chain) {
    slot_ = std::max<Bytes>((most + memory_slots - 1) / memory_slots, 1);
    const auto count = at(chain.stage_count());
    forward_ns_.assign(count + 1, 0);
    for (std::size_t s = 0; s < count; ++s) {
      forward_ns_[s + 1] = forward_ns_[s] + chain.needs(static_cast<std::int32_t>(s)).forward_ns;
    }
    cost_.assign(count * count * (memory_slots + 1), impossible);
    for (std::int32_t length = 0; length < chain.stage_count(); ++length) {
      for (std::int32_t s = 0; s + length < chain.stage_count(); ++s) solve(s, s + length);
    }
  }

  enum class Keeps : std::uint8_t { nothing, everything };
  struct Pass {
    std::int32_t stage = 0;
    bool is_backward = false;
    Keeps keeps = Keeps::nothing;
  };

  // The order of forward and backward passes within so many bytes; absent: there is none.
  [[nodiscard]] std::optional<std::vector<Pass>> passes(Bytes free_bytes) const {
    if (free_bytes < 0) return std::nullopt;
    const auto room = static_cast<int>(std::min<Bytes>(free_bytes / slot_, memory_slots));
    std::vector<Pass> passes;
    if (cost(room, 0, chain_.stage_count() - 1) == impossible) return std::nullopt;
    unfold(room, 0, chain_.stage_count() - 1, passes);
    return passes;
  }

 private:
  [[nodiscard]] int in_slots(Bytes bytes) const {
    return static_cast<int>(std::min<Bytes>((bytes + slot_ - 1) / slot_, memory_slots + 1));
  }
  [[nodiscard]] std::size_t index_of(std::int32_t s, std::int32_t t) const {
    return (at(s) * at(chain_.stage_count()) + at(t)) * (memory_slots + 1);
  }
  [[nodiscard]] double cost(int room, std::int32_t s, std::int32_t t) const {
    return room < 0 ? impossible : cost_[index_of(s, t) + at(room)];
  }

  // Keep all of s. The rest of the chain follows at once.
  [[nodiscard]] double keep_all(int room, std::int32_t s, std::int32_t t) const {
    const Chain::Needs& needs = chain_.needs(s);
    const Bytes most = std::max(needs.forward_all + chain_.needs(t).gradients, needs.backward);
    if (room < in_slots(most)) return impossible;
    const double own = needs.forward_ns + needs.backward_ns;
    return s == t ? own : own + cost(room - in_slots(needs.kept), s + 1, t);
  }

  // Room for running s to split - 1 forward without keeping, while the gradients at t are alive.
  [[nodiscard]] Bytes forward_need(std::int32_t s, std::int32_t stage, std::int32_t t) const {
    return chain_.input_beyond(s, stage) + chain_.needs(stage).forward_none +
           chain_.needs(t).gradients;
  }

  void solve(std::int32_t s, std::int32_t t) {
    double* best = &cost_[index_of(s, t)];
    for (int room = 0; room <= memory_slots; ++room) best[room] = keep_all(room, s, t);
    Bytes need = 0;
    for (std::int32_t split = s + 1; split <= t; ++split) {
      if (!chain_.needs(split - 1).may_repeat) break;
      need = std::max(need, forward_need(s, split - 1, t));
      const int input = in_slots(chain_.input_beyond(s, split));
      const double forward = forward_ns_[at(split)] - forward_ns_[at(s)];
      for (int room = std::max(in_slots(need), input); room <= memory_slots; ++room) {
        best[room] =
            std::min(best[room], forward + cost(room - input, split, t) + cost(room, s, split - 1));
      }
    }
  }

  void unfold(int room, std::int32_t s, std::int32_t t, std::vector<Pass>& passes) const {
    const double best = cost(room, s, t);
    if (keep_all(room, s, t) == best) {
      passes.push_back({.stage = s, .is_backward = false, .keeps = Keeps::everything});
      if (s < t) unfold(room - in_slots(chain_.needs(s).kept), s + 1, t, passes);
      passes.push_back({.stage = s, .is_backward = true});
      return;
    }
    Bytes need = 0;
    for (std::int32_t split = s + 1; split <= t; ++split) {
      if (!chain_.needs(split - 1).may_repeat) break;
      need = std::max(need, forward_need(s, split - 1, t));
      const int input = in_slots(chain_.input_beyond(s, split));
      if (room < std::max(in_slots(need), input)) continue;
      const double forward = forward_ns_[at(split)] - forward_ns_[at(s)];
      if (forward + cost(room - input, split, t) + cost(room, s, split - 1) != best) continue;
      for (std::int32_t stage = s; stage < split; ++stage) passes.push_back({.stage = stage});
      unfold(room - input, split, t, passes);
      return unfold(room, s, split - 1, passes);
    }
  }

  const Chain& chain_;
  Bytes slot_ = 1;
  std::vector<double> forward_ns_;  // of all stages before
  std::vector<double> cost_;        // by s, t, memory_slots
};

// The passes as runs of operators.
std::vector<SequenceRun> sequence_of(const StepTrace& trace, const Chain& chain,
                                     const std::vector<Programme::Pass>& passes) {
  std::vector<SequenceRun> sequence;
  std::vector<char> has_run(trace.ops.size(), 0);
  const auto add = [&](Position p) {
    SequenceRun run{.op = make_id<OpId>(at(p)), .is_repeated = has_run[at(p)] != 0, .makes = {}};
    if (run.is_repeated) {
      for (const StorageId id : trace.ops[at(p)].creates) {
        if (!chain.is_pinned(static_cast<ValueId>(id))) run.makes.push_back(id);
      }
    }
    has_run[at(p)] = 1;
    sequence.push_back(std::move(run));
  };
  for (const Programme::Pass& pass : passes) {
    const Stage& stage = chain.stage(pass.stage);
    const Position first = pass.is_backward ? stage.backward_first : stage.first;
    const Position last = pass.is_backward ? stage.backward_last : stage.last;
    for (Position p = first; p <= last; ++p) add(p);
  }
  for (std::size_t p = 0; p < trace.ops.size(); ++p) {
    if (has_run[p] == 0) add(static_cast<Position>(p));
  }
  return sequence;
}

class Rotor final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "rotor"; }
  [[nodiscard]] std::string_view description() const override {
    return "dynamic programme over the chain of blocks, recomputing as often as useful (Rotor)";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    Proposal proposal;
    if (request.runs.empty()) {
      proposal.notes.emplace_back("rotor needs blocks, and the step has none");
      return proposal;
    }
    const Chain chain(trace, request);
    const std::vector<Bytes> budgets = budget_ladder(trace, rotor_rungs);
    const Bytes held = chain.once().graph().static_bytes() + chain.pinned_bytes();
    if (budgets.empty() || budgets.back() <= held) return proposal;
    const Programme programme(chain, budgets.back() - held);
    for (const Bytes budget : budgets) {
      const auto passes = programme.passes(budget - held);
      if (!passes) continue;
      proposal.schedules.push_back(
          write_sequence(trace, request.runs, sequence_of(trace, chain, *passes)));
    }
    return proposal;
  }
};

}  // namespace

const Planner& rotor_planner() {
  static const Rotor planner;
  return planner;
}

}  // namespace tidemark
