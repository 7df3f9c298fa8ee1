// What no schedule can do better.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <vector>

#include "tidemark/planner.hpp"

namespace tidemark {

namespace {

bool has_times(const StepTrace& trace) {
  return std::any_of(trace.ops.begin(), trace.ops.end(),
                     [](const Op& op) { return op.duration.count() > 0; });
}

}  // namespace

// While an operator runs, static memory, its operands, its results and its scratch are alive.
BoundPeak lower_bound_on_peak(const StepTrace& trace) {
  const std::vector<bool> is_static = static_storages(trace);
  Bytes static_bytes = 0;
  for (std::size_t s = 0; s < is_static.size(); ++s) {
    if (is_static[s]) static_bytes += trace.storages[s].bytes;
  }
  BoundPeak bound{.bytes = static_bytes, .op = {}};
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    const Op& op = trace.ops[o];
    std::vector<StorageId> operands = op.creates;
    for (const auto* ids : {&op.reads, &op.writes}) {
      std::copy_if(ids->begin(), ids->end(), std::back_inserter(operands),
                   [&](StorageId id) { return !is_static[index(id)]; });
    }
    std::sort(operands.begin(), operands.end());
    operands.erase(std::unique(operands.begin(), operands.end()), operands.end());
    Bytes level = static_bytes + op.workspace_bytes;
    for (const StorageId id : operands) level += trace.storages[index(id)].bytes;
    if (level > bound.bytes) bound = {.bytes = level, .op = make_id<OpId>(o)};
  }
  return bound;
}

// Each operator runs at least once, one after the other.
std::optional<double> lower_bound_seconds(const StepTrace& trace, const PlanRequest&) {
  if (!has_times(trace)) return std::nullopt;
  double total = 0;
  for (const Op& op : trace.ops) total += seconds(op.duration);
  return total;
}

}  // namespace tidemark
