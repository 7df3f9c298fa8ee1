// Every block is a checkpoint: "full" activation checkpointing, as torchtitan's mode "full"
// (torchtitan/distributed/activation_checkpoint.py) and Megatron-LM's --recompute-method uniform
// with one layer do it.
#include <optional>
#include <utility>

#include "grouped_blocks.hpp"
#include "strategies.hpp"

namespace tidemark {

namespace {

class RecomputeAll final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "recompute-all"; }
  [[nodiscard]] std::string_view description() const override {
    return "every block recomputed, its inputs kept";
  }
  [[nodiscard]] Granularity granularity() const override { return Granularity::block; }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    Proposal proposal;
    if (request.runs.empty()) {
      proposal.notes.emplace_back("recompute-all needs blocks, and the step has none");
    } else if (auto schedule = grouped_blocks(trace, request, block_count(request))) {
      proposal.schedules.push_back(std::move(*schedule));
    }
    return proposal;
  }
};

}  // namespace

const Planner& recompute_all_planner() {
  static const RecomputeAll planner;
  return planner;
}

}  // namespace tidemark
