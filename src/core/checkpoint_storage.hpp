// Where a segment's checkpoint lies between its forward and its recomputation: as it is, cut to one
// rank's slice, on the host, in contiguous buffers, and their combinations.
// Source: deepspeed/runtime/activation_checkpointing/{checkpointing,offload_activations}.py.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "handed_inputs.hpp"
#include "schedule_writer.hpp"
#include "step_analysis.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

class CheckpointStorage {
 public:
  CheckpointStorage(const StepTrace& trace, const StepAnalysis& analysis, const Setting& setting,
                    ScheduleWriter& writer);

  // DeepSpeed's own reason why the setting cannot run; absent: it can.
  [[nodiscard]] std::optional<std::string> invalid_reason() const;
  // What was assumed about inputs.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

  // True when the input is moved, so that the segment's end (or a later one) releases the original.
  [[nodiscard]] bool is_moved(std::size_t segment, StorageId input) const;
  // The last segment whose checkpoint moves this storage; no_segment: none does.
  [[nodiscard]] std::int32_t moved_by(StorageId id) const { return moved_by_[index(id)]; }
  // Until when others than its checkpoint hold the bytes of a moved input; no_op: nobody does.
  [[nodiscard]] OpPosition held_by_others_until(StorageId id) const;
  // Asynchronous offload releases originals itself.
  [[nodiscard]] bool releases_originals() const { return is_async_; }

  // The four moments of a segment. `original` is the input's instance as forward reads it.
  void before_forward(std::size_t segment, const std::vector<InstanceId>& originals);
  void after_forward(std::size_t segment);
  // Brings moved inputs back; gives one instance per input, in the order of the segment's inputs.
  [[nodiscard]] std::vector<InstanceId> before_recomputation(
      std::size_t segment, const std::vector<InstanceId>& originals);
  // What it brought back beside originals that are there still: parts and expansions of storages,
  // which views of them hold. The segment lets go of them with its inputs.
  [[nodiscard]] const std::vector<InstanceId>& beside_originals(std::size_t segment) const {
    return beside_[segment];
  }

 private:
  struct Kept {
    HandedInput input;
    InstanceId original = unnamed_instance;  // as forward read it
    InstanceId held = unnamed_instance;  // what is held until backward: whole or this rank's slice
    std::vector<InstanceId> peers;       // by rank; this rank's entry stays unnamed
    std::optional<StepId> copied;        // the asynchronous copy to the host
    InstanceId emptied = unnamed_instance;  // what the caller's tensor holds meanwhile
    bool is_original_alive = true;
  };

  using Inputs = std::vector<std::vector<HandedInput>>;  // by segment

  [[nodiscard]] Bytes slice_bytes(const HandedInput& input) const;
  [[nodiscard]] Bytes fetched_bytes(const HandedInput& input) const;
  [[nodiscard]] Place host_place() const;
  [[nodiscard]] bool is_eligible(const HandedInput& input) const;
  [[nodiscard]] std::string title(const HandedInput& input) const;
  [[nodiscard]] bool is_captured(const Inputs& all, const HandedInput& input);
  [[nodiscard]] bool is_read_later(const Inputs& all, std::size_t segment,
                                   const HandedInput& input) const;
  [[nodiscard]] std::optional<std::string> refusal(const Inputs& all, std::size_t segment,
                                                   const HandedInput& input);
  void find_moved_inputs();
  void find_pool_sizes();
  void note_other_layouts();
  [[nodiscard]] InstanceId allocate(const HandedInput& input, Bytes bytes, Place place,
                                    Cause cause);
  std::optional<StepId> copy(const HandedInput& input, InstanceId from, InstanceId to, Queue queue,
                             Cause cause);
  void make_pools(std::size_t segment);
  void free_unused_pool_buffers();
  void keep_slice(std::size_t segment, std::size_t slot, Kept& kept);
  void keep_on_host(Kept& kept);
  [[nodiscard]] std::optional<StepId> copy_to_host(const Kept& kept, InstanceId host, Queue queue,
                                                   bool lies_so);
  void register_for_offload(std::size_t segment);
  void start_offload(Kept& kept);
  void drop_drained(Kept& kept);
  [[nodiscard]] InstanceId fetch(const Kept& kept, InstanceId from, Queue queue);
  [[nodiscard]] InstanceId bring_back(Kept& kept);
  [[nodiscard]] InstanceId bring_back_async(Kept& kept);
  [[nodiscard]] InstanceId gather(const Kept& kept, InstanceId slice);

  const StepTrace& trace_;
  const StepAnalysis& analysis_;
  const Setting& setting_;
  ScheduleWriter& writer_;
  bool is_async_ = false;
  Inputs moved_;                        // in the order of the inputs
  std::vector<std::int32_t> moved_by_;  // by storage
  // By storage: until when a moved view of it holds its bytes; no_op: none does.
  std::vector<OpPosition> viewed_until_;
  std::vector<std::vector<Kept>> kept_;          // by segment
  std::vector<std::vector<InstanceId>> beside_;  // by segment
  // Asynchronous offload: every input registered so far, as (segment, position in kept_).
  std::vector<std::pair<std::size_t, std::size_t>> registered_;
  // Contiguous buffers not used yet, by slot.
  std::vector<std::deque<InstanceId>> pools_;
  std::vector<std::string> notes_;
  std::optional<std::string> invalid_reason_;
};

}  // namespace tidemark
