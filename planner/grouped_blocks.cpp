#include "grouped_blocks.hpp"

#include <utility>
#include <variant>

namespace tidemark {

std::optional<Schedule> grouped_blocks(const StepTrace& trace, const PlanRequest& request,
                                       std::int32_t segments) {
  Setting setting;
  setting.number_checkpoints = segments;
  setting.method = Method::non_reentrant;
  auto built = build_schedule(trace, request.runs, setting);
  auto* valid = std::get_if<BuiltSchedule>(&built);
  if (valid == nullptr) return std::nullopt;
  return std::move(valid->schedule);
}

std::int32_t block_count(const PlanRequest& request) {
  std::size_t blocks = 0;
  for (const BlockRun& run : request.runs) blocks += run.blocks.size();
  return static_cast<std::int32_t>(blocks);
}

}  // namespace tidemark
