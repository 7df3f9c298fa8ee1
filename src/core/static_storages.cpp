#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark {

std::vector<bool> static_storages(const StepTrace& trace) {
  std::vector<bool> is_static(trace.storages.size(), true);
  for (const Op& op : trace.ops) {
    for (const StorageId id : op.creates) is_static[index(id)] = false;
  }
  return is_static;
}

bool is_on_device(const StepTrace& trace, StorageId id) {
  return !is_gpu(trace.device.kind) || !trace.storages[index(id)].device.starts_with("cpu");
}

bool is_executable(const StepTrace& trace) {
  for (const Op& op : trace.ops) {
    if (!op.call || (op.no_grad && !op.no_grad->call)) return false;
  }
  return !trace.ops.empty();
}

}  // namespace tidemark
