// Training steps built from a forward program: the backward part follows by itself, as autograd
// would run it. Times come from a roofline: bytes moved and operations, on a machine of 1 TB/s and
// 100 TFLOP/s.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark::test {

class Tape {
 public:
  // What backward needs besides the incoming gradient.
  enum class Saves : std::uint8_t { nothing, inputs, output, both };

  struct Layer {
    std::string name;
    std::string module;
    std::vector<StorageId> inputs;
    Bytes bytes = 0;             // of the result
    std::vector<Bytes> further;  // further results, saved (statistics)
    Saves saves = Saves::inputs;
    double operations = 0;                // floating-point operations of the forward part
    Bytes weight_bytes = 0;               // 0: no weight
    std::optional<Nanoseconds> duration;  // instead of the roofline's; backward takes twice as long
  };

  StorageId input(Bytes bytes) { return add_storage(bytes, Role::input); }

  StorageId add(const Layer& layer) {
    Recorded recorded{.layer = layer};
    if (layer.weight_bytes > 0) {
      recorded.weight = add_storage(layer.weight_bytes, Role::parameter);
    }
    Op op = make(layer.name, Phase::forward, layer);
    op.reads = layer.inputs;
    if (recorded.weight) op.reads.push_back(*recorded.weight);
    recorded.output = add_storage(layer.bytes, Role::activation);
    op.creates.push_back(recorded.output);
    for (const Bytes bytes : layer.further) {
      op.creates.push_back(add_storage(bytes, Role::activation));
      recorded.statistics.push_back(op.creates.back());
    }
    op.duration = duration(layer, op);
    recorded.op = make_id<OpId>(trace_.ops.size());
    trace_.ops.push_back(op);
    layers_.push_back(recorded);
    return recorded.output;
  }

  // The backward part; `loss` is the last layer's result.
  StepTrace finish(StorageId loss) {
    gradients_.resize(trace_.storages.size(), no_storage);
    trace_.loss = loss;
    trace_.keep.push_back(loss);
    StorageId seed = add_storage(trace_.storages[index(loss)].bytes, Role::activation);
    Op ones;
    ones.name = "ones_like";
    ones.phase = Phase::backward;
    ones.creates = {seed};
    ones.duration = Nanoseconds(1000);
    trace_.ops.push_back(ones);
    gradients_[index(loss)] = seed;
    for (std::size_t i = layers_.size(); i-- > 0;) run_backward(layers_[i]);
    return std::move(trace_);
  }

 private:
  struct Recorded {
    Layer layer;
    StorageId output = no_storage;
    std::vector<StorageId> statistics;
    std::optional<StorageId> weight;
    OpId op{};
  };

  StorageId add_storage(Bytes bytes, Role role) {
    Storage storage;
    storage.bytes = bytes;
    storage.role = role;
    trace_.storages.push_back(storage);
    gradients_.resize(trace_.storages.size(), no_storage);
    return make_id<StorageId>(trace_.storages.size() - 1);
  }

  static Op make(const std::string& name, Phase phase, const Layer& layer) {
    Op op;
    op.name = name;
    op.phase = phase;
    op.module = layer.module;
    return op;
  }

  [[nodiscard]] Nanoseconds duration(const Layer& layer, const Op& op) const {
    const double factor = op.phase == Phase::backward ? 2 : 1;
    if (layer.duration) return Nanoseconds(layer.duration->count() * static_cast<int>(factor));
    Bytes moved = 0;
    for (const auto* ids : {&op.reads, &op.creates}) {
      for (const StorageId id : *ids) moved += trace_.storages[index(id)].bytes;
    }
    const double memory = static_cast<double>(moved) / 1e12;
    const double arithmetic = factor * layer.operations / 100e12;
    return Nanoseconds(static_cast<std::int64_t>(1e9 * std::max(memory, arithmetic)) + 2000);
  }

  void run_backward(const Recorded& recorded) {
    const StorageId gradient = gradients_[index(recorded.output)];
    if (gradient == no_storage) return;
    const Layer& layer = recorded.layer;
    Op op = make(layer.name + "_backward", Phase::backward, layer);
    op.forward_ops = {recorded.op};
    op.reads = {gradient};
    if (layer.saves == Saves::inputs || layer.saves == Saves::both) {
      for (const StorageId id : layer.inputs) read_once(op, id);
    }
    if (layer.saves == Saves::output || layer.saves == Saves::both) read_once(op, recorded.output);
    for (const StorageId id : recorded.statistics) read_once(op, id);
    if (recorded.weight) {
      read_once(op, *recorded.weight);
      const StorageId made = add_storage(layer.weight_bytes, Role::gradient);
      op.creates.push_back(made);
      TensorView view;
      view.storage = made;
      trace_.gradients.emplace_back(*recorded.weight, view);
      trace_.keep.push_back(made);
    }
    std::vector<std::pair<StorageId, StorageId>> sums;  // (input, further gradient)
    for (const StorageId id : layer.inputs) {
      if (trace_.storages[index(id)].role == Role::input) continue;
      const StorageId made = add_storage(trace_.storages[index(id)].bytes, Role::activation);
      op.creates.push_back(made);
      if (gradients_[index(id)] == no_storage) {
        gradients_[index(id)] = made;
      } else {
        sums.emplace_back(id, made);
      }
    }
    op.duration = duration(layer, op);
    trace_.ops.push_back(op);
    for (const auto& [id, made] : sums) add_up(layer, id, made);
  }

  void add_up(const Layer& layer, StorageId id, StorageId made) {
    Op sum = make("add", Phase::backward, layer);
    sum.reads = {gradients_[index(id)], made};
    gradients_[index(id)] = add_storage(trace_.storages[index(id)].bytes, Role::activation);
    sum.creates = {gradients_[index(id)]};
    sum.duration = duration({}, sum);
    trace_.ops.push_back(sum);
  }

  static void read_once(Op& op, StorageId id) {
    for (const StorageId read : op.reads) {
      if (read == id) return;
    }
    op.reads.push_back(id);
  }

  StepTrace trace_;
  std::vector<Recorded> layers_;
  std::vector<StorageId> gradients_;  // by storage: the gradient so far
};

}  // namespace tidemark::test
