// Segments of equally many blocks, PyTorch's non-reentrant form: every grouping there is.
#include <optional>
#include <utility>

#include "grouped_blocks.hpp"
#include "strategies.hpp"

namespace tidemark {

namespace {

class EveryNBlocks final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "every-n-blocks"; }
  [[nodiscard]] std::string_view description() const override {
    return "segments of equally many blocks";
  }
  [[nodiscard]] Granularity granularity() const override { return Granularity::block; }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    Proposal proposal;
    for (const std::int32_t k : distinct_checkpoint_counts(request.runs)) {
      if (auto schedule = grouped_blocks(trace, request, k)) {
        proposal.schedules.push_back(std::move(*schedule));
      }
    }
    return proposal;
  }
};

}  // namespace

const Planner& every_n_blocks_planner() {
  static const EveryNBlocks planner;
  return planner;
}

}  // namespace tidemark
