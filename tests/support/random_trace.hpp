// Sound traces made by chance, with every field in use; the same seed gives the same trace.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark::test {

class RandomTrace {
 public:
  explicit RandomTrace(std::uint64_t seed) : engine_(seed) {
    make_surroundings();
    const std::size_t statics = 1 + below(4);
    for (std::size_t s = 0; s < statics; ++s) add_storage(static_cast<Role>(below(5)));
    const std::size_t ops = 1 + below(12);
    for (std::size_t o = 0; o < ops; ++o) add_op(o, ops);
    end_lives();
    keep_results();
    hand_tensors();
  }

  [[nodiscard]] const StepTrace& trace() const { return trace_; }

 private:
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(engine_() % limit); }
  bool chance() { return below(2) == 0; }

  // Quotes, other alphabets and what JSON must escape.
  std::string text() {
    static const std::vector<std::string> texts{
        "",        "wte.weight",     "a \"quoted\" name", "back\\slash", "line\nbreak",
        "Schicht", "\xe5\xb1\xa4.0", "tab\there",         "null",        "\x01"};
    return texts[below(texts.size())];
  }

  double real() {
    const auto bits = static_cast<double>(engine_());
    return (chance() ? 1 : -1) * bits / static_cast<double>(1 + (engine_() >> below(64)));
  }

  void make_surroundings() {
    trace_.device = {.kind = static_cast<DeviceKind>(below(4)),
                     .name = text(),
                     .threads = static_cast<std::int32_t>(below(65)),
                     .copy_bytes_per_second = {}};
    if (chance()) trace_.device.copy_bytes_per_second = 1 + std::abs(real());
    if (chance()) trace_.device.transfer_rates = TransferRates{1, 2, 3, 1 + std::abs(real())};
    if (chance()) trace_.device.memory_bytes = static_cast<Bytes>(below(1U << 30));
    if (chance()) trace_.device.context_bytes = static_cast<Bytes>(below(1U << 20));
    trace_.world_size = static_cast<std::int32_t>(1 + below(4));
    trace_.rank = static_cast<std::int32_t>(below(static_cast<std::size_t>(trace_.world_size)));
    if (chance()) trace_.groups = {{0}, {0, 1}, {}};
    trace_.provenance = {.tool = text(),
                         .command_line = text(),
                         .created = text(),
                         .model = text(),
                         .framework = text(),
                         .host = text(),
                         .seed = static_cast<std::int64_t>(engine_()),
                         .calls_without_answer = {}};
    if (chance()) make_calls_without_answer();
    for (std::size_t m = below(3); m > 0; --m) trace_.modules.push_back({text(), text()});
  }

  void make_calls_without_answer() {
    auto& calls = trace_.provenance.calls_without_answer.emplace();
    for (std::size_t c = below(3); c > 0; --c) {
      calls.push_back({.name = text(),
                       .answer = static_cast<PhantomAnswer>(below(phantom_answer_count)),
                       .times = static_cast<std::int64_t>(1 + below(1000))});
    }
  }

  void hand_tensors() {
    for (Module& module : trace_.modules) {
      for (std::size_t i = below(3); i > 0; --i) {
        module.inputs.push_back({.view = view(), .is_view = chance()});
      }
    }
  }

  StorageId add_storage(Role role) {
    Storage storage;
    storage.bytes = static_cast<Bytes>(64 + below(4096));
    storage.role = role;
    storage.name = text();
    storage.device = text();
    if (below(4) == 0) {
      storage.value.emplace();
      for (Bytes b = 0; b < storage.bytes; ++b) {
        storage.value->push_back(static_cast<std::uint8_t>(below(256)));
      }
    }
    trace_.storages.push_back(storage);
    return make_id<StorageId>(trace_.storages.size() - 1);
  }

  std::vector<StorageId> some_of(std::size_t storages) {
    std::vector<StorageId> some;
    for (std::size_t s = 0; s < storages; ++s) {
      if (below(3) == 0) some.push_back(make_id<StorageId>(s));
    }
    std::shuffle(some.begin(), some.end(), engine_);
    return some;
  }

  void add_op(std::size_t position, std::size_t count) {
    Op op;
    op.name = "aten::" + text();
    op.phase = static_cast<Phase>(3 * position / count);
    op.module = text();
    const std::size_t before = trace_.storages.size();
    op.reads = some_of(before);
    op.writes = some_of(before);
    for (std::size_t c = below(3); c > 0; --c) {
      op.creates.push_back(add_storage(static_cast<Role>(below(9))));
    }
    op.duration = Nanoseconds(static_cast<std::int64_t>(below(1'000'000)));
    op.workspace_bytes = static_cast<Bytes>(below(1'000'000));
    op.flags = {chance(), chance(), chance(), chance()};
    if (op.phase == Phase::backward && chance()) op.forward_ops = {OpId{0}};
    op.source = text();
    if (chance()) op.group = static_cast<std::int32_t>(below(3));
    if (chance()) op.allocations = events(op);
    if (chance()) op.call = call();
    // Drawn aside: the steps are the same with and without second forms.
    const auto engine_before = engine_;
    if (op.phase == Phase::forward && chance()) {
      op.no_grad = NoGradForm{.omits = {},
                              .workspace_bytes = static_cast<Bytes>(below(1000)),
                              .allocations = {},
                              .call = {}};
      if (!op.creates.empty() && chance()) op.no_grad->omits.push_back(op.creates.front());
      if (chance()) op.no_grad->allocations = events(op);
      if (chance()) op.no_grad->call = call();
    }
    engine_ = engine_before;
    trace_.ops.push_back(op);
  }

  std::vector<AllocationEvent> events(const Op& op) {
    std::vector<AllocationEvent> events;
    for (const StorageId id : op.creates) {
      events.push_back({.is_free = false,
                        .bytes = trace_.storages[index(id)].bytes,
                        .storage = id,
                        .temporary = -1});
    }
    for (std::int32_t t = 0; t < 2; ++t) {
      events.push_back({.is_free = t == 1, .bytes = 512, .storage = no_storage, .temporary = 0});
    }
    return events;
  }

  TensorView view() {
    TensorView view;
    view.storage = make_id<StorageId>(below(trace_.storages.size()));
    view.dtype = static_cast<ScalarType>(below(21));
    // At most 2 + 1 elements of 16 bytes: every storage holds them.
    view.sizes = chance() ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{1, 2};
    view.strides =
        view.sizes.empty() ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{2, 1};
    view.offset = static_cast<std::int64_t>(below(2));
    view.is_wrapped_number = chance();
    view.is_conjugated = chance();
    view.is_negated = chance();
    return view;
  }

  CallValue value(int depth) {
    switch (below(depth < 3 ? 12 : 11)) {
      case 0:
        return {view()};
      case 1:
        return {static_cast<std::int64_t>(engine_())};
      case 2:
        return {real()};
      case 3:
        return {static_cast<double>(below(3))};
      case 4:
        return {chance()};
      case 5:
        return {text()};
      case 6:
        return {static_cast<ScalarType>(below(21))};
      case 7:
        return {DeviceValue{text()}};
      case 8:
        return {Layout::strided};
      case 9:
        return {static_cast<MemoryFormat>(below(4))};
      case 10:
        return chance() ? CallValue{DefaultGenerator{}} : CallValue{NullValue{}};
      default:
        return {list(depth)};
    }
  }

  CallList list(int depth) {
    CallList list{.of = chance() ? "tensor?" : "int", .items = {}};
    for (std::size_t i = below(3); i > 0; --i) list.items.push_back(value(depth + 1));
    return list;
  }

  Call call() {
    Call call{.overload = chance() ? "" : "out", .arguments = {}, .results = {}};
    for (std::size_t a = below(5); a > 0; --a) call.arguments.push_back(value(0));
    for (std::size_t r = below(3); r > 0; --r) call.results.push_back(value(0));
    return call;
  }

  // The last use of each created storage, or a little later.
  void end_lives() {
    std::vector<std::size_t> last(trace_.storages.size(), 0);
    std::vector<bool> is_created(trace_.storages.size(), false);
    for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
      const Op& op = trace_.ops[o];
      for (const auto* ids : {&op.reads, &op.writes, &op.creates}) {
        for (const StorageId id : *ids) last[index(id)] = o;
      }
      for (const StorageId id : op.creates) is_created[index(id)] = true;
    }
    for (std::size_t s = 0; s < last.size(); ++s) {
      if (!is_created[s] || chance()) continue;
      const std::size_t end = last[s] + below(trace_.ops.size() - last[s]);
      trace_.storages[s].freed_after = make_id<OpId>(end);
    }
  }

  void keep_results() {
    for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
      if (trace_.storages[s].freed_after || chance()) continue;
      trace_.keep.push_back(make_id<StorageId>(s));
    }
    if (chance()) trace_.loss = make_id<StorageId>(below(trace_.storages.size()));
    if (chance()) trace_.gradients.emplace_back(StorageId{0}, view());
    trace_.outputs = some_of(trace_.storages.size());
  }

  std::mt19937_64 engine_;
  StepTrace trace_;
};

}  // namespace tidemark::test
