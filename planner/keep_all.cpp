// No checkpointing: the recorded step as it is.
#include <variant>

#include "strategies.hpp"

namespace tidemark {

namespace {

class KeepAll final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "keep-all"; }
  [[nodiscard]] std::string_view description() const override { return "no checkpointing"; }
  [[nodiscard]] Granularity granularity() const override { return Granularity::block; }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    auto built = build_schedule(trace, request.runs, Setting{});
    Proposal proposal;
    proposal.schedules.push_back(std::move(std::get<BuiltSchedule>(built).schedule));
    return proposal;
  }
};

}  // namespace

const Planner& keep_all_planner() {
  static const KeepAll planner;
  return planner;
}

}  // namespace tidemark
