#include "checkpoint_storage.hpp"

#include <algorithm>

namespace tidemark {

namespace {

// DeepSpeed leaves torch.empty([]) in the caller's tensor, of the default type.
constexpr Bytes emptied_bytes = 4;

std::string storage_title(const StepTrace& trace, StorageId id, OpPosition creator) {
  const Storage& storage = trace.storages[index(id)];
  if (!storage.name.empty()) return storage.name;
  std::string title = "storage " + std::to_string(index(id));
  if (creator == no_op) return title;
  const Op& op = trace.ops[static_cast<std::size_t>(creator)];
  return title + " (" + op.name + (op.module.empty() ? "" : " in " + op.module) + ")";
}

}  // namespace

CheckpointStorage::CheckpointStorage(const StepTrace& trace, const StepAnalysis& analysis,
                                     const Setting& setting, ScheduleWriter& writer)
    : trace_(trace),
      analysis_(analysis),
      setting_(setting),
      writer_(writer),
      is_async_(setting.cpu_checkpointing == CpuCheckpointing::async),
      moved_(analysis.segments().size()),
      moved_by_(trace.storages.size(), no_segment),
      viewed_until_(trace.storages.size(), no_op),
      kept_(analysis.segments().size()),
      beside_(analysis.segments().size()) {
  if (setting.contiguous_memory_optimization && !setting.partition_activations) {
    invalid_reason_ =
        "Contiguous Checkpointing is only available with partitioned activations. Set partitioned "
        "activations to true in deepspeed config";
  } else if (setting.contiguous_memory_optimization && !setting.number_checkpoints) {
    invalid_reason_ = "Must specify the number of layers with contiguous memory checkpointing";
  } else if (is_async_ && setting.partition_activations) {
    invalid_reason_ =
        "DeepSpeed offloads asynchronously only without partitioning; with partition_activations "
        "its copies are blocking";
  } else if (is_async_ && setting.deepspeed_version < first_async_version) {
    invalid_reason_ = "DeepSpeed " + to_string(setting.deepspeed_version) +
                      " has no asynchronous cpu_checkpointing; it came with 0.19.6";
  }
  if (!invalid_reason_) find_moved_inputs();
}

std::optional<std::string> CheckpointStorage::invalid_reason() const { return invalid_reason_; }

// What is kept of an input: all of its elements, or this rank's share.
Bytes CheckpointStorage::slice_bytes(const HandedInput& input) const {
  return setting_.partition_activations ? input.bytes / setting_.model_parallel_size : input.bytes;
}

// The asynchronous form rebuilds the strides, gaps included.
Bytes CheckpointStorage::fetched_bytes(const HandedInput& input) const {
  return is_async_ ? input.extent : slice_bytes(input);
}

Place CheckpointStorage::host_place() const {
  return is_async_ ? Place::host_pinned : Place::host_pageable;
}

OpPosition CheckpointStorage::held_by_others_until(StorageId id) const {
  return std::max(analysis_.held_elsewhere_until(id, moved_by(id)), viewed_until_[index(id)]);
}

bool CheckpointStorage::is_moved(std::size_t segment, StorageId input) const {
  return std::any_of(moved_[segment].begin(), moved_[segment].end(),
                     [&](const HandedInput& moved) { return moved.storage == input; });
}

std::string CheckpointStorage::title(const HandedInput& input) const {
  return storage_title(trace_, input.storage, analysis_.creator(input.storage));
}

// DeepSpeed moves every floating-point tensor argument of at least M elements; asynchronously, none
// whose elements overlap.
bool CheckpointStorage::is_eligible(const HandedInput& input) const {
  return is_floating_point(input.type) && input.elements >= setting_.model_parallel_size &&
         !(is_async_ && input.has_zero_stride);
}

// What feeds several checkpoints cannot be an argument of each, since the first one empties it;
// without a gradient, or as a parameter's view, the function can hold it instead.
bool CheckpointStorage::is_captured(const Inputs& all, const HandedInput& input) {
  const Role role = trace_.storages[index(input.storage)].role;
  const bool may_be = !analysis_.requires_grad(input.storage) || role == Role::parameter;
  const auto takes_it = [&](const std::vector<HandedInput>& inputs) {
    return std::any_of(inputs.begin(), inputs.end(), [&](const HandedInput& other) {
      return other.storage == input.storage && other.view == input.view;
    });
  };
  if (!may_be || std::count_if(all.begin(), all.end(), takes_it) < 2) return false;
  const std::string note = title(input) +
                           " feeds several checkpoints and needs no gradient: taken as captured by "
                           "the function, not passed as an argument, which DeepSpeed would empty";
  if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
  return true;
}

// Whoever reads the caller's tensor after its checkpoint finds nothing. Other tensors of the same
// storage are not emptied, if this one is a view.
bool CheckpointStorage::is_read_later(const Inputs& all, std::size_t segment,
                                      const HandedInput& input) const {
  const auto is_it = [&](const HandedInput& other) {
    return other.storage == input.storage && other.view == input.view;
  };
  const bool is_handed_again =
      std::any_of(all.begin() + static_cast<std::ptrdiff_t>(segment) + 1, all.end(),
                  [&](const std::vector<HandedInput>& inputs) {
                    return std::any_of(inputs.begin(), inputs.end(), is_it);
                  });
  if (is_handed_again) return true;
  const auto end = static_cast<OpPosition>(analysis_.segments()[segment].segment.last);
  const std::vector<OpPosition>& uses = analysis_.uses(input.storage);
  return std::any_of(uses.begin(), uses.end(), [&](OpPosition use) {
    const Op& reader = trace_.ops[static_cast<std::size_t>(use)];
    if (use <= end || reader.phase != Phase::forward) return false;
    if (!input.is_view || !input.view || !reader.call) return true;
    return std::any_of(reader.call->arguments.begin(), reader.call->arguments.end(),
                       [&](const CallValue& value) {
                         const auto* view = std::get_if<TensorView>(&value.value);
                         return view != nullptr && *view == *input.view;
                       });
  });
}

std::optional<std::string> CheckpointStorage::refusal(const Inputs& all, std::size_t segment,
                                                      const HandedInput& input) {
  if (is_read_later(all, segment, input)) {
    const auto readers = std::count_if(
        analysis_.segments().begin(), analysis_.segments().end(), [&](const SegmentFacts& facts) {
          return std::find(facts.inputs.begin(), facts.inputs.end(), input.storage) !=
                 facts.inputs.end();
        });
    return title(input) + " feeds a checkpoint and is read again afterwards" +
           (readers > 1 ? " by another checkpoint" : "") +
           "; DeepSpeed empties the tensor after the first and crashes";
  }
  if (setting_.partition_activations && input.elements % setting_.model_parallel_size != 0) {
    return "Doesn't handle if partition activation if item is not divisible by mp size: " +
           title(input) + " has " + std::to_string(input.elements) +
           " elements, model_parallel_size is " + std::to_string(setting_.model_parallel_size);
  }
  return std::nullopt;
}

void CheckpointStorage::find_moved_inputs() {
  if (!setting_.partition_activations && setting_.cpu_checkpointing == CpuCheckpointing::off)
    return;
  const HandedInputs handed(trace_, analysis_);
  Inputs all;
  for (std::size_t s = 0; s < analysis_.segments().size(); ++s) all.push_back(handed.of(s));
  for (std::size_t s = 0; s < all.size(); ++s) {
    for (const HandedInput& input : all[s]) {
      if (!is_eligible(input) || is_captured(all, input)) continue;
      invalid_reason_ = refusal(all, s, input);
      if (invalid_reason_) return;
      moved_[s].push_back(input);
      moved_by_[index(input.storage)] = static_cast<std::int32_t>(s);
      // A part that no view holds is read where it lies all the same.
      if (!input.is_view && input.is_whole) continue;
      OpPosition& until = viewed_until_[index(input.storage)];
      until = std::max(until, analysis_.segments()[s].last_backward);
    }
  }
  note_other_layouts();
  if (setting_.contiguous_memory_optimization) find_pool_sizes();
}

// The recomputation gets a contiguous tensor (from the host, one in the order of the elements if it
// was dense) where the forward got one of another layout.
void CheckpointStorage::note_other_layouts() {
  const HandedInput* first = nullptr;
  std::size_t others = 0;
  for (const std::vector<HandedInput>& inputs : moved_) {
    for (const HandedInput& input : inputs) {
      const bool is_restored =
          is_async_ || (setting_.partition_activations ? input.is_contiguous : input.is_dense);
      if (is_restored) continue;
      if (first != nullptr) ++others;
      if (first == nullptr) first = &input;
    }
  }
  if (first == nullptr) return;
  notes_.push_back("DeepSpeed hands " + title(*first) +
                   (others > 0 ? " and " + std::to_string(others) + " other inputs" : "") +
                   " to the recomputation in another layout than to the forward, where operators "
                   "may need other memory: the peak may differ from the predicted one");
}

void CheckpointStorage::find_pool_sizes() {
  std::vector<Bytes> first_slice;
  for (const std::vector<HandedInput>& inputs : moved_) {
    for (std::size_t slot = 0; slot < inputs.size(); ++slot) {
      const Bytes bytes = slice_bytes(inputs[slot]);
      if (slot == first_slice.size()) first_slice.push_back(bytes);
      if (first_slice[slot] == bytes) continue;
      invalid_reason_ = "The size of " + title(inputs[slot]) + " (" + std::to_string(bytes) +
                        " bytes a rank) differs from the first checkpoint's (" +
                        std::to_string(first_slice[slot]) +
                        "), and contiguous buffers hold equal sizes only";
      return;
    }
  }
  if (static_cast<std::size_t>(*setting_.number_checkpoints) < analysis_.segments().size()) {
    invalid_reason_ =
        "IndexError: list index out of range: " + std::to_string(analysis_.segments().size()) +
        " checkpoints a forward, number_checkpoints is " +
        std::to_string(*setting_.number_checkpoints);
  }
}

// N buffers per argument slot, at the first checkpoint of a forward that has the slot. A buffer
// that no checkpoint will use is a further instance of the slot's first storage. The sizes that
// DeepSpeed keeps beside them, 8 bytes a dimension, are no offloaded values and count nowhere, as
// generator states on the host do not.
void CheckpointStorage::make_pools(std::size_t segment) {
  for (std::size_t slot = pools_.size(); slot < moved_[segment].size(); ++slot) {
    const Place place =
        setting_.cpu_checkpointing == CpuCheckpointing::off ? Place::device : host_place();
    std::vector<HandedInput> users;
    for (std::size_t s = segment; s < moved_.size(); ++s) {
      if (slot < moved_[s].size()) users.push_back(moved_[s][slot]);
    }
    std::deque<InstanceId> pool;
    for (std::size_t n = 0; n < static_cast<std::size_t>(*setting_.number_checkpoints); ++n) {
      const HandedInput& user = n < users.size() ? users[n] : users.front();
      pool.push_back(writer_.allocate(user.storage, slice_bytes(users.front()), place,
                                      Term::checkpoint_pools, Cause::contiguous_pool));
    }
    pools_.push_back(std::move(pool));
  }
}

// The first backward drops the lists; buffers in use live on in their checkpoints.
void CheckpointStorage::free_unused_pool_buffers() {
  for (std::deque<InstanceId>& pool : pools_) {
    for (const InstanceId buffer : pool) writer_.free(buffer, Cause::contiguous_pool);
    pool.clear();
  }
}

// Elements that overlap are more bytes than the storage has: they are counted and not copied.
std::optional<StepId> CheckpointStorage::copy(const HandedInput& input, InstanceId from,
                                              InstanceId to, Queue queue, Cause cause) {
  if (input.overlaps()) return std::nullopt;
  return writer_.copy_whole(from, to, queue, cause);
}

InstanceId CheckpointStorage::allocate(const HandedInput& input, Bytes bytes, Place place,
                                       Cause cause) {
  return writer_.allocate(input.overlaps() ? no_storage : input.storage, bytes, place,
                          Term::held_checkpoints, cause);
}

// This rank's slice is cloned, from a contiguous copy where the input is none; the peers' slices,
// which their own ranks would keep, lie in the place `peer`, so that the gather has real bytes to
// copy.
void CheckpointStorage::keep_slice(std::size_t segment, std::size_t slot, Kept& kept) {
  const HandedInput& input = kept.input;
  const Bytes bytes = slice_bytes(input);
  const std::int32_t ranks = setting_.model_parallel_size;
  const std::int32_t rank = trace_.rank % ranks;
  const auto cut = [&](std::int32_t r, Place place) {
    const InstanceId slice = allocate(input, bytes, place, Cause::partition);
    if (input.overlaps()) return slice;
    writer_.add(Copy{.from = kept.original,
                     .to = slice,
                     .from_offset = input.offset + r * bytes,
                     .to_offset = 0,
                     .bytes = bytes,
                     .queue = Queue::compute},
                Cause::partition);
    return slice;
  };
  InstanceId contiguous = unnamed_instance;
  if (!input.is_contiguous) {
    contiguous = allocate(input, input.bytes, Place::device, Cause::partition);
  }
  kept.held = cut(rank, Place::device);
  if (contiguous != unnamed_instance) writer_.free(contiguous, Cause::partition);
  for (std::int32_t r = 0; r < ranks; ++r) {
    kept.peers.push_back(r == rank ? unnamed_instance : cut(r, Place::peer));
  }
  if (setting_.contiguous_memory_optimization) {
    if (slot >= pools_.size()) make_pools(segment);
    const InstanceId buffer = pools_[slot].front();
    pools_[slot].pop_front();
    (void)copy(input, kept.held, buffer, Queue::compute, Cause::contiguous_pool);
    writer_.free(kept.held, Cause::partition);
    kept.held = buffer;
  } else if (setting_.cpu_checkpointing != CpuCheckpointing::off) {
    const InstanceId slice = kept.held;
    keep_on_host(kept);
    writer_.free(slice, Cause::offload);
  }
}

void CheckpointStorage::keep_on_host(Kept& kept) {
  const HandedInput& input = kept.input;
  const InstanceId host = allocate(input, slice_bytes(input), host_place(), Cause::offload);
  if (kept.held != unnamed_instance) {
    (void)copy(input, kept.held, host, Queue::compute, Cause::offload);
  } else {
    (void)copy_to_host(kept, host, Queue::compute, input.is_dense);
  }
  kept.held = host;
}

// What does not lie as it is to lie on the host is first copied on the device.
std::optional<StepId> CheckpointStorage::copy_to_host(const Kept& kept, InstanceId host,
                                                      Queue queue, bool lies_so) {
  const HandedInput& input = kept.input;
  InstanceId gathered = unnamed_instance;
  if (!lies_so) {
    gathered = allocate(input, input.bytes, Place::device, Cause::offload);
  }
  std::optional<StepId> copied;
  if (!input.overlaps()) {
    copied = writer_.add(Copy{.from = kept.original,
                              .to = host,
                              .from_offset = input.offset,
                              .to_offset = 0,
                              .bytes = input.bytes,
                              .queue = queue},
                         Cause::offload);
  }
  if (gathered != unnamed_instance) writer_.free(gathered, Cause::offload);
  return copied;
}

void CheckpointStorage::before_forward(std::size_t segment,
                                       const std::vector<InstanceId>& originals) {
  const std::vector<StorageId>& inputs = analysis_.segments()[segment].inputs;
  for (const HandedInput& input : moved_[segment]) {
    const auto place = std::find(inputs.begin(), inputs.end(), input.storage);
    const InstanceId original = place == inputs.end()
                                    ? writer_.static_instance(input.storage)
                                    : originals[static_cast<std::size_t>(place - inputs.begin())];
    kept_[segment].push_back({.input = input, .original = original, .peers = {}, .copied = {}});
    Kept& kept = kept_[segment].back();
    if (setting_.partition_activations) {
      keep_slice(segment, kept_[segment].size() - 1, kept);
    } else if (!is_async_) {
      keep_on_host(kept);
    }
  }
}

void CheckpointStorage::start_offload(Kept& kept) {
  kept.held = allocate(kept.input, slice_bytes(kept.input), host_place(), Cause::offload);
  kept.copied = copy_to_host(kept, kept.held, Queue::offload, kept.input.is_contiguous);
}

void CheckpointStorage::drop_drained(Kept& kept) {
  if (kept.copied) {
    writer_.add(Wait{.queue = Queue::compute, .event = *kept.copied}, Cause::offload);
  }
  kept.is_original_alive = false;
  const StorageId storage = kept.input.storage;
  if (analysis_.is_static(storage) || held_by_others_until(storage) != no_op) return;
  writer_.free(kept.original, Cause::offload);
}

// DeepSpeed keeps the newest input, starts the copy of the one before, and lets go of the one
// before that. Its own release is held back by record_stream until the copy has drained; ours
// waits for the copy's event, so that the bytes are a function of the schedule alone:
//
//   registered:   0     1          2                      3
//   copy starts:        0          1                      2
//   released:                      0 (waits for copy 0)   1
void CheckpointStorage::register_for_offload(std::size_t segment) {
  const auto kept_at = [&](std::size_t n) -> Kept& {
    return kept_[registered_[n].first][registered_[n].second];
  };
  for (std::size_t k = 0; k < kept_[segment].size(); ++k) {
    registered_.emplace_back(segment, k);
    const std::size_t newest = registered_.size() - 1;
    if (newest >= 2) drop_drained(kept_at(newest - 2));
    if (newest >= 1) start_offload(kept_at(newest - 1));
  }
}

void CheckpointStorage::after_forward(std::size_t segment) {
  if (is_async_) register_for_offload(segment);
  const Cause cause = setting_.partition_activations ? Cause::partition : Cause::offload;
  for (Kept& kept : kept_[segment]) {
    kept.emptied =
        writer_.allocate(no_storage, emptied_bytes, Place::device, Term::held_checkpoints, cause);
  }
}

InstanceId CheckpointStorage::fetch(const Kept& kept, InstanceId from, Queue queue) {
  const HandedInput& input = kept.input;
  const InstanceId to = allocate(input, fetched_bytes(input), Place::device, Cause::fetch);
  // The copy arrives contiguous and is spread from there.
  InstanceId arrived = unnamed_instance;
  if (is_async_ && !input.is_contiguous) {
    arrived = allocate(input, input.bytes, Place::device, Cause::fetch);
  }
  const std::optional<StepId> copied = copy(input, from, to, queue, Cause::fetch);
  if (copied && queue != Queue::compute) {
    writer_.add(Wait{.queue = Queue::compute, .event = *copied}, Cause::fetch);
  }
  if (arrived != unnamed_instance) writer_.free(arrived, Cause::fetch);
  writer_.free(from, Cause::fetch);
  return to;
}

// A zeroed full buffer, this rank's slice copied in, the others gathered; the slice is freed when
// the buffer takes its place.
InstanceId CheckpointStorage::gather(const Kept& kept, InstanceId slice) {
  const HandedInput& input = kept.input;
  const InstanceId full = allocate(input, input.bytes, Place::device, Cause::gather);
  std::vector<InstanceId> inputs = kept.peers;
  std::replace(inputs.begin(), inputs.end(), unnamed_instance, slice);
  if (!input.overlaps()) {
    writer_.add(
        Collective{
            .kind = CollectiveKind::all_gather, .group = 0, .inputs = inputs, .output = full},
        Cause::gather);
  }
  for (const InstanceId part : inputs) writer_.free(part, Cause::gather);
  return full;
}

InstanceId CheckpointStorage::bring_back_async(Kept& kept) {
  if (!kept.is_original_alive) {
    return fetch(kept, kept.held, Queue::offload);
  }
  if (kept.held != unnamed_instance) {
    // Still on the device; only its copy has to be done before it goes.
    if (kept.copied) {
      writer_.add(Wait{.queue = Queue::compute, .event = *kept.copied}, Cause::offload);
    }
    writer_.free(kept.held, Cause::offload);
  }
  return kept.original;
}

InstanceId CheckpointStorage::bring_back(Kept& kept) {
  InstanceId held = is_async_ ? bring_back_async(kept) : kept.held;
  if (writer_.instance(held).place == Place::host_pageable) {
    held = fetch(kept, held, Queue::compute);
  }
  writer_.free(kept.emptied, setting_.partition_activations ? Cause::gather : Cause::fetch);
  const bool is_whole = !setting_.partition_activations || setting_.model_parallel_size == 1;
  return is_whole ? held : gather(kept, held);
}

std::vector<InstanceId> CheckpointStorage::before_recomputation(
    std::size_t segment, const std::vector<InstanceId>& originals) {
  free_unused_pool_buffers();
  std::vector<InstanceId> back = originals;
  const std::vector<StorageId>& inputs = analysis_.segments()[segment].inputs;
  for (Kept& kept : kept_[segment]) {
    const InstanceId brought = bring_back(kept);
    if (brought == kept.original) continue;
    const auto place = std::find(inputs.begin(), inputs.end(), kept.input.storage);
    const auto input = static_cast<std::size_t>(place - inputs.begin());
    const bool serves =
        kept.input.is_whole && place != inputs.end() && back[input] == originals[input];
    if (serves) {
      back[input] = brought;
    } else {
      beside_[segment].push_back(brought);
    }
  }
  return back;
}

}  // namespace tidemark
