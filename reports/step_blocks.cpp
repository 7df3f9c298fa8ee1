#include "step_blocks.hpp"

#include <algorithm>
#include <map>

#include "tidemark/setting.hpp"

namespace tidemark {

namespace {

bool is_under(const std::string& module, const std::string& name) {
  return module.starts_with(name) && (module.size() == name.size() || module[name.size()] == '.');
}

}  // namespace

StepBlocks::StepBlocks(const StepTrace& trace, const Sweep& sweep)
    : ops_(trace.ops.size()), makers_(trace.storages.size()), readers_(trace.storages.size()) {
  find_names(trace, sweep);
  place_forward(trace);
  place_others(trace);
  place_storages(trace);
}

void StepBlocks::find_names(const StepTrace& trace, const Sweep& sweep) {
  for (const SweepRow& row : sweep.rows) {
    if (row.setting.segments.empty()) continue;
    for (const auto& segment : row.setting.segments) {
      names_.insert(names_.end(), segment.begin(), segment.end());
    }
    return;  // every row groups the same blocks
  }
  for (const BlockRun& run : find_blocks(trace)) {
    for (const Block& block : run.blocks) names_.push_back(block.name);
  }
}

// Operators between a block's first and its last one are inside, whatever module they name.
void StepBlocks::place_forward(const StepTrace& trace) {
  const auto fill = [&](std::size_t block, std::size_t first, std::size_t last) {
    for (std::size_t op = first; op <= last && op < ops_.size(); ++op) ops_[op] = block;
  };
  std::map<std::string, Block> found;
  for (const BlockRun& run : find_blocks(trace)) {
    for (const Block& block : run.blocks) found.emplace(block.name, block);
  }
  for (std::size_t b = 0; b < names_.size(); ++b) {
    if (const auto known = found.find(names_[b]); known != found.end()) {
      fill(b, index(known->second.first), index(known->second.last));
      continue;
    }
    std::optional<std::size_t> first;
    std::size_t last = 0;
    for (std::size_t op = 0; op < trace.ops.size(); ++op) {
      if (trace.ops[op].phase != Phase::forward || !is_under(trace.ops[op].module, names_[b])) {
        continue;
      }
      first = first.value_or(op);
      last = op;
    }
    if (first) fill(b, *first, last);
  }
}

void StepBlocks::place_others(const StepTrace& trace) {
  for (std::size_t op = 0; op < trace.ops.size(); ++op) {
    const Op& each = trace.ops[op];
    if (each.phase != Phase::backward) continue;
    if (!each.forward_ops.empty()) {
      ops_[op] = ops_[index(each.forward_ops.front())];
      continue;
    }
    for (std::size_t b = 0; b < names_.size() && !ops_[op]; ++b) {
      if (is_under(each.module, names_[b])) ops_[op] = b;
    }
  }
}

void StepBlocks::place_storages(const StepTrace& trace) {
  for (std::size_t op = 0; op < trace.ops.size(); ++op) {
    for (const StorageId made : trace.ops[op].creates) makers_[index(made)] = ops_[op];
    for (const StorageId read : trace.ops[op].reads) {
      auto& reader = readers_[index(read)];
      if (!reader && ops_[op] != makers_[index(read)]) reader = ops_[op];
    }
  }
}

std::optional<std::size_t> StepBlocks::maker(StorageId storage) const {
  return storage == no_storage ? std::nullopt : makers_[index(storage)];
}

std::optional<std::size_t> StepBlocks::reader(StorageId storage) const {
  if (storage == no_storage) return std::nullopt;
  return readers_[index(storage)] ? readers_[index(storage)] : makers_[index(storage)];
}

std::vector<std::string> short_names(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::string shared = names.front();
  for (const std::string& name : names) {
    const auto end = std::mismatch(shared.begin(), shared.end(), name.begin(), name.end()).first;
    shared.erase(end, shared.end());
  }
  // "transformer.h." is shared; "h." stays.
  std::size_t cut = shared.rfind('.');
  if (cut != std::string::npos && cut > 0) cut = shared.rfind('.', cut - 1);
  cut = cut == std::string::npos ? 0 : cut + 1;
  std::vector<std::string> shorter;
  shorter.reserve(names.size());
  for (const std::string& name : names) shorter.push_back(name.substr(std::min(cut, name.size())));
  return shorter;
}

}  // namespace tidemark
