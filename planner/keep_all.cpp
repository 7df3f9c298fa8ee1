// No checkpointing: the recorded step as it is.
#include <variant>

#include "strategies.hpp"

namespace tidemark {

namespace {

class KeepAll final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "keep-all"; }
  [[nodiscard]] std::string_view description() const override { return "no checkpointing"; }
  [[nodiscard]] std::vector<Schedule> plan(const StepTrace& trace,
                                           const PlanRequest& request) const override {
    auto built = build_schedule(trace, request.runs, Setting{});
    return {std::move(std::get<BuiltSchedule>(built).schedule)};
  }
};

}  // namespace

const Planner& keep_all_planner() {
  static const KeepAll planner;
  return planner;
}

}  // namespace tidemark
