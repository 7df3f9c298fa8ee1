// PyTorch's partitioner with torch._functorch.config.activation_memory_budget
// (torch/_functorch/partitioners.py, choose_saved_values_set and solve_min_cut, torch 2.11): a
// minimum cut between forward and backward, in which some operators are banned from running again,
// chooses what is saved. A budget p between 0 (inputs only) and 1 (the cut that is best for time)
// lifts bans: first those of the heuristics, then a knapsack over the banned operators (solver
// "dp", 1/10,000 of the memory a slot; times as with the estimator "profile") keeps those that are
// worth most within p, and the cut is taken again. The budget is a share of the saved bytes, not of
// the peak, so that every twentieth is tried. Operators run one by one here: none counts as fused
// into another, so that the heuristics about fusion (used far apart, long chains, half the weight)
// never apply. Parameters and inputs are there anyway and cost nothing.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "operator_kinds.hpp"
#include "recompute_once.hpp"
#include "strategies.hpp"
#include "tide/at.hpp"
#include "tide/min_cut.hpp"

namespace tidemark {

namespace {

using tide::at;
using tide::MinCut;
using tide::Position;
using tide::ValueId;

constexpr int steps_of_budget = 20;

// Operators that the default policy lets run again: pointwise ones, reductions, and copies.
bool is_recomputable(std::string_view bare) {
  static constexpr std::array<std::string_view, 72> names{
      "add",        "sub",       "div",   "atan2",    "mul",      "max",     "min",
      "pow",        "remainder", "fmod",  "eq",       "ne",       "ge",      "gt",
      "le",         "lt",        "abs",   "ceil",     "floor",    "frac",    "neg",
      "relu",       "round",     "silu",  "trunc",    "log",      "log10",   "log1p",
      "log2",       "exp",       "expm1", "erf",      "erfc",     "cos",     "cosh",
      "sin",        "sinh",      "tan",   "tanh",     "sqrt",     "rsqrt",   "reciprocal",
      "sigmoid",    "softplus",  "clamp", "where",    "lerp",     "addcmul", "gelu",
      "sum",        "mean",      "amax",  "rsub",     "_to_copy", "clone",   "copy_",
      "full_like",  "var",       "std",   "var_mean", "cat",      "ones",    "zeros",
      "zeros_like", "arange",    "triu",  "index",    "gather",   "full",    "maximum",
      "leaky_relu", "hardtanh"};
  return std::find(names.begin(), names.end(), bare) != names.end();
}

bool is_compute_intensive(std::string_view bare) {
  return is_matmul(bare) || is_attention(bare) || is_convolution(bare) ||
         bare == "upsample_bilinear2d";
}

// Which reasons ban an operator from running again, as the partitioner gives them up one by one.
enum class Bans : std::uint8_t { all, without_fusion, heavy_only };

class Partitioner {
 public:
  Partitioner(const StepTrace& trace, const PlanRequest& request)
      : trace_(trace),
        request_(request),
        once_(trace, request),
        distance_(static_cast<std::size_t>(once_.backward()), unreachable),
        users_(trace.storages.size()) {
    const tide::StepGraph& graph = once_.graph();
    for (Position p = 0; p < once_.backward(); ++p) {
      for (const ValueId v : graph.at(p).operands) users_[at(v)].push_back(p);
    }
    // Steps to backward along what reads the results.
    for (Position p = once_.backward() - 1; p >= 0; --p) {
      for (const auto* values : {&graph.at(p).creates, &graph.at(p).overwrites}) {
        for (const ValueId v : *values) shorten(p, v);
      }
    }
  }

  [[nodiscard]] Proposal plan() {
    Proposal proposal;
    std::set<std::vector<char>> tried;
    const std::vector<char> best_for_time = saved({}, Bans::all);
    const Bytes most = bytes_of(best_for_time);
    const std::vector<char> without_fusion = saved({}, Bans::without_fusion);
    const std::vector<char> heavy_only = saved({}, Bans::heavy_only);
    find_items(most);
    for (int step = steps_of_budget; step >= 0; --step) {
      if (request_.is_stopped()) {
        proposal.truncated = true;
        break;
      }
      const double share = static_cast<double>(step) / steps_of_budget;
      const auto ratio = [&](const std::vector<char>& kept) {
        return static_cast<double>(bytes_of(kept)) / static_cast<double>(std::max<Bytes>(most, 1));
      };
      std::vector<char> kept;
      if (step == 0) {
        kept.assign(trace_.storages.size(), 0);
      } else if (step == steps_of_budget) {
        kept = best_for_time;
      } else if (ratio(without_fusion) < share) {
        kept = without_fusion;
      } else if (ratio(heavy_only) < share) {
        kept = heavy_only;
      } else {
        kept = saved(not_chosen(share), Bans::heavy_only);
      }
      const auto [tried_kept, is_new] = tried.insert(std::move(kept));
      if (is_new) proposal.schedules.push_back(once_.schedule(*tried_kept));
    }
    return proposal;
  }

 private:
  static constexpr int unreachable = 1'000'000'000;
  static constexpr int slots = 10'000;

  void shorten(Position p, ValueId v) {
    int& distance = distance_[at(p)];
    if (once_.is_needed_in_backward(v)) distance = 1;
    for (const Position user : users_[at(v)]) {
      if (user > p && distance_[at(user)] != unreachable) {
        distance = std::min(distance, distance_[at(user)] + 1);
      }
    }
  }

  [[nodiscard]] bool is_banned(Position p, Bans bans) const {
    const Op& op = trace_.ops[at(p)];
    const tide::Operation& operation = once_.graph().at(p);
    const std::string_view name = bare_name(op.name);
    if (bans == Bans::heavy_only) {
      if (op.flags.random || is_compute_intensive(name)) return true;
    } else if (op.flags.random || !is_recomputable(name)) {
      return true;
    }
    const auto bytes = [&](const std::vector<ValueId>& values) {
      Bytes sum = 0;
      for (const ValueId v : values) sum += once_.graph().value(v).bytes;
      return sum;
    };
    const bool is_read_in_backward =
        std::any_of(operation.creates.begin(), operation.creates.end(),
                    [&](ValueId v) { return once_.is_needed_in_backward(v); });
    if (bans == Bans::all && is_read_in_backward) return true;
    // Reductions: what comes out is less than a quarter of what goes in.
    return bytes(operation.creates) * 4 < bytes(operation.operands) && !operation.creates.empty();
  }

  // The cut: by value, whether it is saved. `allowed` by operator lifts its ban.
  [[nodiscard]] std::vector<char> saved(const std::vector<char>& allowed, Bans bans) const {
    constexpr std::size_t source = 0;
    constexpr std::size_t sink = 1;
    const tide::StepGraph& graph = once_.graph();
    const std::size_t values = trace_.storages.size();
    const auto in = [&](ValueId v) { return 2 + 2 * at(v); };
    const auto node = [&](Position p) { return 2 + 2 * values + at(p); };
    MinCut cut(2 + 2 * values + at(once_.backward()));
    for (Position p = 0; p < once_.backward(); ++p) {
      const bool is_lifted = !allowed.empty() && allowed[at(p)] != 0;
      if (is_banned(p, bans) && !is_lifted) cut.add_edge(source, node(p), MinCut::unlimited);
      for (const ValueId v : graph.at(p).creates) cut.add_edge(node(p), in(v), MinCut::unlimited);
      for (const ValueId v : graph.at(p).operands) {
        const auto& own = graph.at(p).overwrites;
        const bool is_own = std::find(own.begin(), own.end(), v) != own.end();
        if (is_own) {
          cut.add_edge(node(p), in(v), MinCut::unlimited);
        } else {
          cut.add_edge(in(v) + 1, node(p), MinCut::unlimited);
        }
      }
    }
    for (ValueId v = 0; v < graph.value_count(); ++v) {
      if (!once_.is_made_in_forward(v)) continue;
      if (!once_.may_be_dropped(v)) cut.add_edge(source, in(v), MinCut::unlimited);
      cut.add_edge(in(v), in(v) + 1, weight(v));
      if (once_.is_needed_in_backward(v)) cut.add_edge(in(v) + 1, sink, MinCut::unlimited);
    }
    (void)cut.solve(source, sink);
    std::vector<char> is_saved(values, 0);
    for (ValueId v = 0; v < graph.value_count(); ++v) {
      const bool is_cut = cut.is_on_source_side(in(v)) && !cut.is_on_source_side(in(v) + 1);
      is_saved[at(v)] = is_cut && once_.is_made_in_forward(v) ? 1 : 0;
    }
    return is_saved;
  }

  // Bytes, the dearer the further from backward.
  [[nodiscard]] std::int64_t weight(ValueId v) const {
    const int distance = std::clamp(distance_[at(once_.graph().value(v).creator)], 1, 100);
    return static_cast<std::int64_t>(static_cast<double>(once_.graph().value(v).bytes) *
                                     std::pow(1.1, distance)) +
           1;
  }

  [[nodiscard]] Bytes bytes_of(const std::vector<char>& is_saved) const {
    Bytes sum = 0;
    for (ValueId v = 0; v < once_.graph().value_count(); ++v) {
      if (is_saved[at(v)] != 0) sum += once_.graph().value(v).bytes;
    }
    return sum;
  }

  struct Item {
    Position op = 0;
    int slots = 0;
    double time = 0;
  };

  // The banned operators that backward depends on, the largest first, and the best time for each
  // number of slots and of items.
  void find_items(Bytes most) {
    std::vector<std::pair<Bytes, Position>> banned;
    for (Position p = 0; p < once_.backward(); ++p) {
      if (!is_banned(p, Bans::heavy_only) || distance_[at(p)] == unreachable) continue;
      Bytes bytes = 0;
      for (const ValueId v : once_.graph().at(p).creates) bytes += once_.graph().value(v).bytes;
      banned.emplace_back(-bytes, p);
    }
    std::sort(banned.begin(), banned.end());
    for (const auto& [negative, p] : banned) {
      const double share =
          static_cast<double>(-negative) / static_cast<double>(std::max<Bytes>(most, 1));
      items_.push_back({p, static_cast<int>(std::lround(std::min(share, 2.0) * slots)),
                        static_cast<double>(once_.graph().at(p).nanoseconds)});
    }
    std::vector<double> best(slots + 1, 0);
    for (const Item& item : items_) {
      std::vector<bool>& takes = takes_.emplace_back(slots + 1, false);
      for (int room = slots; room >= item.slots; --room) {
        const double with = best[at(room - item.slots)] + item.time;
        if (with <= best[at(room)]) continue;
        best[at(room)] = with;
        takes[at(room)] = true;
      }
    }
  }

  // By operator: those that the knapsack leaves out may run again.
  [[nodiscard]] std::vector<char> not_chosen(double share) const {
    std::vector<char> allowed(at(once_.backward()), 0);
    auto room = static_cast<int>(std::lround(share * slots));
    for (std::size_t i = items_.size(); i-- > 0;) {
      if (takes_[i][at(room)]) {
        room -= items_[i].slots;
      } else {
        allowed[at(items_[i].op)] = 1;
      }
    }
    return allowed;
  }

  const StepTrace& trace_;
  const PlanRequest& request_;
  RecomputeOnce once_;
  std::vector<int> distance_;                 // by forward operator: to backward
  std::vector<std::vector<Position>> users_;  // by value: in forward
  std::vector<Item> items_;
  std::vector<std::vector<bool>> takes_;  // by item, by slots free
};

class PytorchBudget final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "pytorch-budget"; }
  [[nodiscard]] std::string_view description() const override {
    return "minimum cut and knapsack (torch.compile's activation_memory_budget)";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    return Partitioner(trace, request).plan();
  }
};

}  // namespace

const Planner& pytorch_budget_planner() {
  static const PytorchBudget planner;
  return planner;
}

}  // namespace tidemark
