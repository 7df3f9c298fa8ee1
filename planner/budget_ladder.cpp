#include "budget_ladder.hpp"

#include "tidemark/setting.hpp"

namespace tidemark {

std::vector<Bytes> budget_ladder(const StepTrace& trace, int rungs) {
  const StepFigures plain = simulate(trace, plain_schedule(trace)).figures;
  const Bytes floor = lower_bound_on_peak(trace).bytes;
  const Bytes range = plain.live_peak_bytes - plain.static_bytes;
  std::vector<Bytes> budgets;
  for (int number = 1; number <= rungs; ++number) {
    const Bytes budget = plain.static_bytes + range * number / rungs;
    if (budget >= floor) budgets.push_back(budget);
  }
  return budgets;
}

}  // namespace tidemark
