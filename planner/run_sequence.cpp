#include "run_sequence.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "instance_terms.hpp"
#include "schedule_writer.hpp"

namespace tidemark {

namespace {

class SequenceWriting {
 public:
  SequenceWriting(const StepTrace& trace, const std::vector<BlockRun>& runs,
                  const std::vector<SequenceRun>& sequence)
      : trace_(trace),
        sequence_(sequence),
        terms_(trace, runs),
        writer_(trace),
        current_(trace.storages.size(), unnamed_instance) {
    for (std::size_t s = 0; s < current_.size(); ++s) {
      current_[s] = writer_.static_instance(make_id<StorageId>(s));
    }
    find_last_uses();
  }

  [[nodiscard]] Schedule write() {
    for (std::size_t i = 0; i < sequence_.size(); ++i) {
      run(i);
      for (const StorageId id : dies_after_[i]) {
        writer_.free(std::exchange(current_[index(id)], unnamed_instance), Cause::recorded);
      }
    }
    return writer_.take();
  }

 private:
  [[nodiscard]] bool is_made(const SequenceRun& item, StorageId id) const {
    return !item.is_repeated ||
           std::find(item.makes.begin(), item.makes.end(), id) != item.makes.end();
  }

  // From the end: the next use of each storage's present instance.
  void find_last_uses() {
    dies_after_.resize(sequence_.size());
    is_wanted_.resize(sequence_.size());
    std::vector<char> is_used_later(trace_.storages.size(), 0);
    for (const StorageId id : trace_.keep) is_used_later[index(id)] = 1;
    const std::vector<bool> is_static = static_storages(trace_);
    for (std::size_t i = sequence_.size(); i-- > 0;) {
      const Op& op = trace_.ops[index(sequence_[i].op)];
      for (const StorageId id : op.creates) {
        const bool is_wanted =
            is_made(sequence_[i], id) && std::exchange(is_used_later[index(id)], 0) != 0;
        is_wanted_[i].push_back(is_wanted ? 1 : 0);
      }
      if (sequence_[i].is_repeated && !is_of_use(i, is_static, is_used_later)) {
        is_wanted_[i].clear();
        continue;
      }
      for (const auto* ids : {&op.reads, &op.writes}) {
        for (const StorageId id : *ids) {
          if (is_static[index(id)] || is_used_later[index(id)] != 0) continue;
          is_used_later[index(id)] = 1;
          dies_after_[i].push_back(id);
        }
      }
    }
  }

  [[nodiscard]] bool is_of_use(std::size_t i, const std::vector<bool>& is_static,
                               const std::vector<char>& is_used_later) const {
    const Op& op = trace_.ops[index(sequence_[i].op)];
    const std::vector<char>& wanted = is_wanted_[i];
    return std::find(wanted.begin(), wanted.end(), 1) != wanted.end() ||
           std::any_of(op.writes.begin(), op.writes.end(), [&](StorageId id) {
             return !is_static[index(id)] && is_used_later[index(id)] != 0;
           });
  }

  void run(std::size_t i) {
    const SequenceRun& item = sequence_[i];
    const Op& op = trace_.ops[index(item.op)];
    if (is_wanted_[i].empty() && item.is_repeated && !op.creates.empty()) return;
    Run run{.op = item.op, .reads = {}, .writes = {}, .creates = {}};
    for (const StorageId id : op.reads) run.reads.push_back(current_[index(id)]);
    for (const StorageId id : op.writes) run.writes.push_back(current_[index(id)]);
    for (std::size_t c = 0; c < op.creates.size(); ++c) {
      const StorageId id = op.creates[c];
      if (is_wanted_[i][c] == 0) {
        run.creates.push_back(unnamed_instance);
        continue;
      }
      const Term term = item.is_repeated ? Term::recomputed_segment : terms_.first_run(id, item.op);
      current_[index(id)] = writer_.name(id, trace_.storages[index(id)].bytes, Place::device, term);
      run.creates.push_back(current_[index(id)]);
    }
    writer_.add(std::move(run), item.is_repeated ? Cause::recompute : Cause::recorded);
  }

  const StepTrace& trace_;
  const std::vector<SequenceRun>& sequence_;
  InstanceTerms terms_;
  ScheduleWriter writer_;
  std::vector<InstanceId> current_;                 // by storage
  std::vector<std::vector<StorageId>> dies_after_;  // by run
  std::vector<std::vector<char>> is_wanted_;        // by run, as the operator's creates
};

}  // namespace

Schedule write_sequence(const StepTrace& trace, const std::vector<BlockRun>& runs,
                        const std::vector<SequenceRun>& sequence) {
  return SequenceWriting(trace, runs, sequence).write();
}

}  // namespace tidemark
