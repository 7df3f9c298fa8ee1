// As many segments as the square root of the number of blocks (Chen, Xu, Zhang, Guestrin, Training
// Deep Nets with Sublinear Memory Cost, arXiv 1604.06174, section 4.1).
#include <cmath>
#include <optional>
#include <utility>

#include "grouped_blocks.hpp"
#include "strategies.hpp"

namespace tidemark {

namespace {

class SquareRoot final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "square-root"; }
  [[nodiscard]] std::string_view description() const override {
    return "as many segments as the square root of the number of blocks";
  }
  [[nodiscard]] Granularity granularity() const override { return Granularity::block; }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    Proposal proposal;
    if (request.runs.empty()) {
      proposal.notes.emplace_back("square-root needs blocks, and the step has none");
      return proposal;
    }
    const auto segments = static_cast<std::int32_t>(std::lround(std::sqrt(block_count(request))));
    if (auto schedule = grouped_blocks(trace, request, segments)) {
      proposal.schedules.push_back(std::move(*schedule));
    }
    return proposal;
  }
};

}  // namespace

const Planner& square_root_planner() {
  static const SquareRoot planner;
  return planner;
}

}  // namespace tidemark
