// torchtitan's activation checkpointing per layer
// (torchtitan/distributed/activation_checkpoint.py), every form there is:
// - mode "selective" with selective_ac_option "n": every nth layer is recomputed whole, its inputs
//   kept ("full" is n = 1); the other layers keep everything;
// - selective_ac_option "op": each layer keeps the results of attention and of every second matrix
//   product, and makes the rest again.
// What a layer makes again, it makes once, before its first use in backward.
#include <cstddef>
#include <utility>
#include <vector>

#include "operator_kinds.hpp"
#include "recompute_once.hpp"
#include "strategies.hpp"

namespace tidemark {

namespace {

using tide::Position;
using tide::ValueId;

class PerLayer {
 public:
  PerLayer(const StepTrace& trace, const PlanRequest& request)
      : trace_(trace), once_(trace, request) {
    for (const BlockRun& run : request.runs) {
      layers_.insert(layers_.end(), run.blocks.begin(), run.blocks.end());
    }
  }

  [[nodiscard]] Proposal plan() {
    Proposal proposal;
    if (layers_.empty()) {
      proposal.notes.emplace_back("torchtitan needs blocks, and the step has none");
      return proposal;
    }
    for (std::size_t n = 1; n <= layers_.size(); ++n) {
      proposal.schedules.push_back(every_nth(n));
    }
    proposal.schedules.push_back(by_operator());
    return proposal;
  }

 private:
  [[nodiscard]] std::vector<char> everything() const {
    return std::vector<char>(trace_.storages.size(), 1);
  }

  // A layer's own results are the next one's inputs, and kept by that.
  [[nodiscard]] bool leaves(ValueId v, const Block& layer) const {
    return once_.last_use_in_forward(v) > static_cast<Position>(layer.last);
  }

  template <typename IsKept>
  void keep_in(const Block& layer, std::vector<char>& is_kept, IsKept&& keeps) const {
    for (auto p = static_cast<Position>(layer.first); p <= static_cast<Position>(layer.last); ++p) {
      const bool keeps_results = keeps(p);
      for (const ValueId v : once_.graph().at(p).creates) {
        is_kept[static_cast<std::size_t>(v)] = keeps_results || leaves(v, layer) ? 1 : 0;
      }
    }
  }

  // The counter of torchtitan runs from 1; layers whose number divides by n are recomputed.
  [[nodiscard]] Schedule every_nth(std::size_t n) const {
    std::vector<char> is_kept = everything();
    for (std::size_t l = n - 1; l < layers_.size(); l += n) {
      keep_in(layers_[l], is_kept, [](Position) { return false; });
    }
    return once_.schedule(std::move(is_kept));
  }

  [[nodiscard]] Schedule by_operator() const {
    std::vector<char> is_kept = everything();
    for (const Block& layer : layers_) {
      int matmuls = 0;
      keep_in(layer, is_kept, [&](Position p) {
        const std::string_view name = bare_name(trace_.ops[static_cast<std::size_t>(p)].name);
        if (is_matmul(name)) return ++matmuls % 2 != 0;
        return is_attention(name);
      });
    }
    return once_.schedule(std::move(is_kept));
  }

  const StepTrace& trace_;
  RecomputeOnce once_;
  std::vector<Block> layers_;
};

class Torchtitan final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "torchtitan"; }
  [[nodiscard]] std::string_view description() const override {
    return "every nth layer recomputed, or each layer but its heavy operators (torchtitan)";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    return PerLayer(trace, request).plan();
  }
};

}  // namespace

const Planner& torchtitan_planner() {
  static const Torchtitan planner;
  return planner;
}

}  // namespace tidemark
