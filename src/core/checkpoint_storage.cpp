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

const TensorView* view_of(const std::vector<CallValue>& values, StorageId id) {
  for (const CallValue& value : values) {
    const auto* view = std::get_if<TensorView>(&value.value);
    if (view != nullptr && view->storage == id) return view;
  }
  return nullptr;
}

// A linear layer with a bias multiplies rows and gives a view of the product (without a bias it
// gives no view): a checkpoint that is such a view is emptied, while its base holds the bytes on.
bool is_view_of_product(const StepTrace& trace, const StepAnalysis& analysis, StorageId id) {
  if (analysis.is_static(id)) return false;
  const Op& maker = trace.ops[static_cast<std::size_t>(analysis.creator(id))];
  if (!multiplies_with_bias(maker)) return false;
  const TensorView* product = maker.call ? view_of(maker.call->results, id) : nullptr;
  if (product == nullptr || product->sizes.size() != 2) return false;
  return std::any_of(analysis.uses(id).begin(), analysis.uses(id).end(), [&](OpPosition use) {
    const Op& reader = trace.ops[static_cast<std::size_t>(use)];
    const TensorView* seen = reader.call ? view_of(reader.call->arguments, id) : nullptr;
    return seen != nullptr && seen->sizes.size() > 2 && seen->sizes.back() == product->sizes.back();
  });
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
      kept_(analysis.segments().size()) {
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

Bytes CheckpointStorage::slice_bytes(StorageId id) const {
  const Bytes bytes = trace_.storages[index(id)].bytes;
  return setting_.partition_activations ? bytes / setting_.model_parallel_size : bytes;
}

Place CheckpointStorage::host_place() const {
  return is_async_ ? Place::host_pinned : Place::host_pageable;
}

OpPosition CheckpointStorage::held_by_others_until(StorageId id) const {
  const std::int32_t mover = moved_by(id);
  OpPosition held = analysis_.held_elsewhere_until(id, mover);
  if (is_view_of_product(trace_, analysis_, id)) {
    held = std::max(held, analysis_.segments()[static_cast<std::size_t>(mover)].last_backward);
  }
  return held;
}

bool CheckpointStorage::is_moved(std::size_t segment, StorageId input) const {
  return moved_by_[index(input)] == static_cast<std::int32_t>(segment);
}

// DeepSpeed moves every floating-point tensor argument of at least M elements and empties the
// caller's tensor: whoever reads it afterwards finds nothing.
void CheckpointStorage::find_moved_inputs() {
  if (!setting_.partition_activations && setting_.cpu_checkpointing == CpuCheckpointing::off)
    return;
  const std::vector<std::optional<ScalarType>> types = storage_types(trace_);
  std::vector<int> readers(trace_.storages.size(), 0);
  for (const SegmentFacts& facts : analysis_.segments()) {
    for (const StorageId id : facts.inputs) ++readers[index(id)];
  }
  std::vector<char> is_noted(trace_.storages.size(), 0);
  std::vector<Bytes> first_slice;
  for (std::size_t s = 0; s < analysis_.segments().size() && !invalid_reason_; ++s) {
    const SegmentFacts& facts = analysis_.segments()[s];
    for (const StorageId id : facts.inputs) {
      const ScalarType type = types[index(id)].value_or(ScalarType::float32);
      const Bytes elements = trace_.storages[index(id)].bytes / element_bytes(type);
      if (!is_floating_point(type) || elements < setting_.model_parallel_size) continue;
      const std::string title = storage_title(trace_, id, analysis_.creator(id));
      if (!analysis_.requires_grad(id) && readers[index(id)] > 1) {
        if (is_noted[index(id)] == 0) {
          notes_.push_back(title +
                           " feeds several checkpoints and needs no gradient: taken as "
                           "captured by the function, not passed as an argument, which DeepSpeed "
                           "would empty");
        }
        is_noted[index(id)] = 1;
        continue;
      }
      const auto end = static_cast<OpPosition>(facts.segment.last);
      const bool is_read_later =
          std::any_of(analysis_.uses(id).begin(), analysis_.uses(id).end(), [&](OpPosition use) {
            return use > end && trace_.ops[static_cast<std::size_t>(use)].phase == Phase::forward;
          });
      if (is_read_later) {
        invalid_reason_ = title + " feeds a checkpoint and is read again afterwards" +
                          (readers[index(id)] > 1 ? " by another checkpoint" : "") +
                          "; DeepSpeed empties the tensor after the first and crashes";
        return;
      }
      if (setting_.partition_activations && elements % setting_.model_parallel_size != 0) {
        invalid_reason_ =
            "Doesn't handle if partition activation if item is not divisible by mp "
            "size: " +
            title + " has " + std::to_string(elements) + " elements, model_parallel_size is " +
            std::to_string(setting_.model_parallel_size);
        return;
      }
      moved_[s].push_back(id);
      moved_by_[index(id)] = static_cast<std::int32_t>(s);
      if (!setting_.contiguous_memory_optimization) continue;
      const std::size_t slot = moved_[s].size() - 1;
      if (slot == first_slice.size()) first_slice.push_back(slice_bytes(id));
      if (first_slice[slot] != slice_bytes(id)) {
        invalid_reason_ = "The size of " + title + " (" + std::to_string(slice_bytes(id)) +
                          " bytes a rank) differs from the first checkpoint's (" +
                          std::to_string(first_slice[slot]) +
                          "), and contiguous buffers hold equal sizes only";
        return;
      }
    }
  }
  if (setting_.contiguous_memory_optimization &&
      static_cast<std::size_t>(*setting_.number_checkpoints) < analysis_.segments().size()) {
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
    std::vector<StorageId> users;
    for (std::size_t s = segment; s < moved_.size(); ++s) {
      if (slot < moved_[s].size()) users.push_back(moved_[s][slot]);
    }
    std::deque<InstanceId> pool;
    for (std::size_t n = 0; n < static_cast<std::size_t>(*setting_.number_checkpoints); ++n) {
      const StorageId user = n < users.size() ? users[n] : users.front();
      pool.push_back(writer_.allocate(user, slice_bytes(users.front()), place,
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

// This rank's slice is cloned; the peers' slices, which their own ranks would keep, lie in the
// place `peer`, so that the gather has real bytes to copy.
void CheckpointStorage::keep_slice(std::size_t segment, std::size_t slot, Kept& kept) {
  const Bytes bytes = slice_bytes(kept.storage);
  const std::int32_t ranks = setting_.model_parallel_size;
  const std::int32_t rank = trace_.rank % ranks;
  const auto cut = [&](std::int32_t r, Place place) {
    const InstanceId slice =
        writer_.allocate(kept.storage, bytes, place, Term::held_checkpoints, Cause::partition);
    writer_.add(Copy{.from = kept.original,
                     .to = slice,
                     .from_offset = r * bytes,
                     .to_offset = 0,
                     .bytes = bytes,
                     .queue = Queue::compute},
                Cause::partition);
    return slice;
  };
  kept.held = cut(rank, Place::device);
  for (std::int32_t r = 0; r < ranks; ++r) {
    kept.peers.push_back(r == rank ? unnamed_instance : cut(r, Place::peer));
  }
  if (setting_.contiguous_memory_optimization) {
    if (slot >= pools_.size()) make_pools(segment);
    const InstanceId buffer = pools_[slot].front();
    pools_[slot].pop_front();
    writer_.copy_whole(kept.held, buffer, Queue::compute, Cause::contiguous_pool);
    writer_.free(kept.held, Cause::partition);
    kept.held = buffer;
  } else if (setting_.cpu_checkpointing != CpuCheckpointing::off) {
    const InstanceId slice = kept.held;
    keep_on_host(kept);
    writer_.free(slice, Cause::offload);
  }
}

void CheckpointStorage::keep_on_host(Kept& kept) {
  const InstanceId from = kept.held == unnamed_instance ? kept.original : kept.held;
  const InstanceId host = writer_.allocate(kept.storage, slice_bytes(kept.storage), host_place(),
                                           Term::held_checkpoints, Cause::offload);
  writer_.copy_whole(from, host, Queue::compute, Cause::offload);
  kept.held = host;
}

void CheckpointStorage::before_forward(std::size_t segment,
                                       const std::vector<InstanceId>& originals) {
  const std::vector<StorageId>& inputs = analysis_.segments()[segment].inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!is_moved(segment, inputs[i])) continue;
    kept_[segment].push_back(
        {.storage = inputs[i], .original = originals[i], .peers = {}, .copied = {}});
    Kept& kept = kept_[segment].back();
    if (setting_.partition_activations) {
      keep_slice(segment, kept_[segment].size() - 1, kept);
    } else if (!is_async_) {
      keep_on_host(kept);
    }
  }
}

void CheckpointStorage::start_offload(Kept& kept) {
  kept.held = writer_.allocate(kept.storage, slice_bytes(kept.storage), host_place(),
                               Term::held_checkpoints, Cause::offload);
  kept.copied = writer_.copy_whole(kept.original, kept.held, Queue::offload, Cause::offload);
}

void CheckpointStorage::drop_drained(Kept& kept) {
  writer_.add(Wait{.queue = Queue::compute, .event = *kept.copied}, Cause::offload);
  kept.is_original_alive = false;
  if (analysis_.is_static(kept.storage) || held_by_others_until(kept.storage) != no_op) return;
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

InstanceId CheckpointStorage::fetch(const Kept& kept, InstanceId from, Bytes bytes, Queue queue) {
  const InstanceId to =
      writer_.allocate(kept.storage, bytes, Place::device, Term::held_checkpoints, Cause::fetch);
  const StepId copied = writer_.copy_whole(from, to, queue, Cause::fetch);
  if (queue != Queue::compute) {
    writer_.add(Wait{.queue = Queue::compute, .event = copied}, Cause::fetch);
  }
  writer_.free(from, Cause::fetch);
  return to;
}

// A zeroed full buffer, this rank's slice copied in, the others gathered; the slice is freed when
// the buffer takes its place.
InstanceId CheckpointStorage::gather(const Kept& kept, InstanceId slice) {
  const InstanceId full = writer_.allocate(kept.storage, trace_.storages[index(kept.storage)].bytes,
                                           Place::device, Term::held_checkpoints, Cause::gather);
  std::vector<InstanceId> inputs = kept.peers;
  std::replace(inputs.begin(), inputs.end(), unnamed_instance, slice);
  writer_.add(
      Collective{.kind = CollectiveKind::all_gather, .group = 0, .inputs = inputs, .output = full},
      Cause::gather);
  for (const InstanceId input : inputs) writer_.free(input, Cause::gather);
  return full;
}

InstanceId CheckpointStorage::bring_back_async(Kept& kept) {
  if (!kept.is_original_alive) {
    return fetch(kept, kept.held, slice_bytes(kept.storage), Queue::offload);
  }
  if (kept.copied) {  // still on the device; only its copy has to be done before it goes
    writer_.add(Wait{.queue = Queue::compute, .event = *kept.copied}, Cause::offload);
    writer_.free(kept.held, Cause::offload);
  }
  return kept.original;
}

InstanceId CheckpointStorage::bring_back(Kept& kept) {
  InstanceId held = is_async_ ? bring_back_async(kept) : kept.held;
  if (writer_.instance(held).place == Place::host_pageable) {
    held = fetch(kept, held, slice_bytes(kept.storage), Queue::compute);
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
  std::size_t next = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (is_moved(segment, inputs[i])) back[i] = bring_back(kept_[segment][next++]);
  }
  return back;
}

}  // namespace tidemark
