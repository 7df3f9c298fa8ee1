// A model of equal blocks with hand-worked bytes, for everything that has to do with checkpoints.
#pragma once

#include <string>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark::test {

// What a chain's backward has beside the blocks' own operators.
struct ChainBackward {
  // Autograd's engine sums gi+1 -> gbi(10) up right behind down_backward i.
  bool sums_biases = false;
  // The code around the blocks gives each one parts of its x: their gradients are joined, gi ->
  // g'i(40), for what made x. No operator splits, so the one before stands for it.
  bool joins_parts = false;
};

// A chain of `blocks` blocks of two operators each; bytes in parentheses:
//
//   embed: we(10) -> x0(40)
//   blocks.i: up: xi, wi(10) -> hi(100)     saved: xi, wi
//             down: hi -> xi+1(40)          saved: hi
//   head: xB -> loss(4)                     saved: xB
//   head_backward: xB -> gB(40)
//   down_backward i: gi+1, hi -> ghi(100)   up_backward i: ghi, xi, wi -> gwi(10), gi(40)
//   embed_backward: g0 -> gwe(10)
//
// Every operator takes 10 ns. Static memory: 10 (B + 1) bytes.
class BlockChain {
 public:
  explicit BlockChain(int blocks, ChainBackward backward = {})
      : blocks_(blocks), backward_(backward) {
    add_static("embed.weight");
    for (int i = 0; i < blocks; ++i) add_static(block(i) + ".weight");
    add_modules();
    run_forward();
    run_backward();
  }

  [[nodiscard]] const StepTrace& trace() const { return trace_; }
  [[nodiscard]] StepTrace& trace() { return trace_; }
  [[nodiscard]] StorageId x(int i) const { return x_.at(static_cast<std::size_t>(i)); }
  [[nodiscard]] StorageId h(int i) const { return h_.at(static_cast<std::size_t>(i)); }
  [[nodiscard]] OpId up(int i) const { return make_id<OpId>(static_cast<std::size_t>(1 + 2 * i)); }
  [[nodiscard]] OpId down(int i) const {
    return make_id<OpId>(static_cast<std::size_t>(2 + 2 * i));
  }

 private:
  static std::string block(int i) { return "blocks." + std::to_string(i); }

  StorageId add_storage(Bytes bytes, Role role, const std::string& name = "") {
    trace_.storages.push_back(
        {.bytes = bytes, .role = role, .name = name, .device = "", .freed_after = {}, .value = {}});
    return make_id<StorageId>(trace_.storages.size() - 1);
  }

  void add_static(const std::string& name) { add_storage(10, Role::parameter, name); }
  [[nodiscard]] StorageId weight(int i) const {
    return make_id<StorageId>(static_cast<std::size_t>(1 + i));
  }

  void add_modules() {
    trace_.modules = {{"embed", "Embedding"}, {"blocks", "ModuleList"}};
    for (int i = 0; i < blocks_; ++i) {
      trace_.modules.push_back({block(i), "Block"});
      trace_.modules.push_back({block(i) + ".inner", "Linear"});
    }
    trace_.modules.push_back({"head", "Linear"});
  }

  OpId run(const std::string& name, Phase phase, const std::string& module,
           std::vector<StorageId> reads, std::vector<StorageId> creates,
           std::vector<OpId> forward_ops = {}) {
    Op op;
    op.name = name;
    op.phase = phase;
    op.module = module;
    op.reads = std::move(reads);
    op.creates = std::move(creates);
    op.duration = Nanoseconds(10);
    op.forward_ops = std::move(forward_ops);
    trace_.ops.push_back(op);
    return make_id<OpId>(trace_.ops.size() - 1);
  }

  void free_after(StorageId storage, OpId op) { trace_.storages[index(storage)].freed_after = op; }

  void run_forward() {
    x_.push_back(add_storage(40, Role::activation));
    run("embed", Phase::forward, "embed", {make_id<StorageId>(0)}, {x_[0]});
    for (int i = 0; i < blocks_; ++i) {
      h_.push_back(add_storage(100, Role::activation));
      x_.push_back(add_storage(40, Role::activation));
      run("up", Phase::forward, block(i) + ".inner", {x(i), weight(i)}, {h(i)});
      run("down", Phase::forward, block(i), {h(i)}, {x(i + 1)});
    }
    loss_ = add_storage(4, Role::output);
    head_ = run("head", Phase::forward, "head", {x(blocks_)}, {loss_});
    trace_.loss = loss_;
    trace_.keep = {loss_};
  }

  void run_backward() {
    StorageId gradient = add_storage(40, Role::activation);
    free_after(x(blocks_),
               run("head_backward", Phase::backward, "head", {x(blocks_)}, {gradient}, {head_}));
    for (int i = blocks_ - 1; i >= 0; --i) {
      const StorageId inner = add_storage(100, Role::activation);
      const OpId down_backward =
          run("down_backward", Phase::backward, block(i), {gradient, h(i)}, {inner}, {down(i)});
      free_after(gradient, backward_.sums_biases ? sum_up(gradient) : down_backward);
      free_after(h(i), down_backward);
      const StorageId weight_gradient = add_storage(10, Role::gradient);
      gradient = add_storage(40, Role::activation);
      const OpId up_backward = run("up_backward", Phase::backward, block(i) + ".inner",
                                   {inner, x(i), weight(i)}, {weight_gradient, gradient}, {up(i)});
      free_after(inner, up_backward);
      free_after(x(i), up_backward);
      keep_gradient(weight(i), weight_gradient);
      if (backward_.joins_parts) gradient = join(gradient, i == 0 ? OpId{} : down(i - 1));
    }
    const StorageId embed_gradient = add_storage(10, Role::gradient);
    free_after(gradient, run("embed_backward", Phase::backward, "embed", {gradient},
                             {embed_gradient}, {make_id<OpId>(0)}));
    keep_gradient(make_id<StorageId>(0), embed_gradient);
  }

  StorageId join(StorageId parts, OpId before) {
    const StorageId joined = add_storage(40, Role::activation);
    free_after(parts, run("aten::cat", Phase::backward, "", {parts}, {joined}, {before}));
    return joined;
  }

  OpId sum_up(StorageId gradient) {
    const StorageId bias_gradient = add_storage(10, Role::gradient);
    trace_.keep.push_back(bias_gradient);
    return run("aten::sum", Phase::backward, "", {gradient}, {bias_gradient});
  }

  void keep_gradient(StorageId parameter, StorageId gradient) {
    TensorView view;
    view.storage = gradient;
    trace_.gradients.emplace_back(parameter, view);
    trace_.keep.push_back(gradient);
  }

  int blocks_;
  ChainBackward backward_;
  StepTrace trace_;
  std::vector<StorageId> x_;
  std::vector<StorageId> h_;
  StorageId loss_{};
  OpId head_{};
};

}  // namespace tidemark::test
