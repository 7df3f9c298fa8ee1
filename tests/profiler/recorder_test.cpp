#include "recorder.hpp"

#include <ATen/ScalarOps.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "recorded_model.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {
namespace {

std::vector<std::string> names(const StepTrace& trace, Phase phase) {
  std::vector<std::string> list;
  for (const Op& op : trace.ops) {
    if (op.phase == phase) list.push_back(op.name);
  }
  return list;
}

const Op& first(const StepTrace& trace, const std::string& name) {
  const auto found = std::find_if(trace.ops.begin(), trace.ops.end(),
                                  [&](const Op& op) { return op.name == name; });
  INFO(name);
  REQUIRE(found != trace.ops.end());
  return *found;
}

OpId position(const StepTrace& trace, const Op& op) {
  return make_id<OpId>(static_cast<std::size_t>(&op - trace.ops.data()));
}

bool holds(const std::vector<StorageId>& list, StorageId id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

const Storage& storage(const StepTrace& trace, StorageId id) { return trace.storages[index(id)]; }

StorageId named(const StepTrace& trace, const std::string& name) {
  const auto found = std::find_if(trace.storages.begin(), trace.storages.end(),
                                  [&](const Storage& s) { return s.name == name; });
  REQUIRE(found != trace.storages.end());
  return make_id<StorageId>(static_cast<std::size_t>(found - trace.storages.begin()));
}

TEST_CASE("composite operators are recorded by their parts, and views not at all") {
  const at::Tensor weight = torch::ones({4, 3}).requires_grad_();
  const at::Tensor bias = torch::ones({4}).requires_grad_();
  const at::Tensor x = torch::ones({2, 3});
  const StepTrace trace =
      record({.statics = {{"weight", Role::parameter, weight},
                          {"bias", Role::parameter, bias},
                          {"x", Role::input, x}},
              .loss = [=] { return torch::linear(x, weight, bias).view({8}).sum(); }})
          .trace;
  REQUIRE(names(trace, Phase::forward) == std::vector<std::string>{"aten::addmm", "aten::sum"});
  const Op& addmm = first(trace, "aten::addmm");
  REQUIRE((addmm.reads == std::vector<StorageId>{named(trace, "bias"), named(trace, "x"),
                                                 named(trace, "weight")}));
  REQUIRE(addmm.creates.size() == 1);
  REQUIRE(storage(trace, addmm.creates.front()).bytes == 2 * 4 * 4);
  REQUIRE(trace.loss == first(trace, "aten::sum").creates.front());
  REQUIRE(check_trace(trace).empty());
  REQUIRE(is_executable(trace));
}

TEST_CASE("a storage is freed where the step released it, not at its last read") {
  const at::Tensor weight = torch::ones({4, 4}).requires_grad_();
  const StepTrace trace = record({.statics = {{"weight", Role::parameter, weight}},
                                  .loss = [=] { return weight.exp().mul(weight).sum(); }})
                              .trace;
  // exp's result is saved by mul's node and its own: both read it, exp's backward last.
  const StorageId saved = first(trace, "aten::exp").creates.front();
  REQUIRE(storage(trace, saved).freed_after);
  const Op& last = trace.ops[index(*storage(trace, saved).freed_after)];
  REQUIRE(last.phase == Phase::backward);
  // mul's result feeds only sum, which does not save it.
  const StorageId product = first(trace, "aten::mul").creates.front();
  REQUIRE(storage(trace, product).freed_after == position(trace, first(trace, "aten::sum")));
}

TEST_CASE("backward operators name the forward operator whose derivative they are") {
  const StepTrace trace = record(multilayer_perceptron()).trace;
  const Op& backward = first(trace, "aten::gelu_backward");
  REQUIRE(backward.forward_ops.size() == 1);
  REQUIRE(trace.ops[index(backward.forward_ops.front())].name == "aten::gelu");
  for (const Op& op : trace.ops) {
    if (op.phase == Phase::forward) REQUIRE(op.forward_ops.empty());
    for (const OpId id : op.forward_ops) REQUIRE(trace.ops[index(id)].phase == Phase::forward);
  }
}

TEST_CASE("what the engine adds up for a node that ran no operator is said to be the node's") {
  const at::Tensor weight = torch::ones({2, 3}).requires_grad_();
  const at::Tensor bias = torch::ones({3}).requires_grad_();
  const std::vector<StaticTensor> statics{{"weight", Role::parameter, weight},
                                          {"bias", Role::parameter, bias}};
  const auto summed_in = [&](const StepTrace& trace) {
    const auto sum = std::find_if(trace.ops.begin(), trace.ops.end(), [](const Op& op) {
      return op.phase == Phase::backward && op.name == "aten::sum";
    });
    REQUIRE(sum != trace.ops.end());
    return *sum;
  };
  // The addition's node hands its gradient on; the engine sums it up for the bias.
  const StepTrace added =
      record({.statics = statics, .loss = [=] { return (weight.exp() + bias).exp().sum(); }}).trace;
  REQUIRE(
      (summed_in(added).forward_ops == std::vector{position(added, first(added, "aten::add"))}));
  // The product's node multiplies, so the operator before the sum tells.
  const StepTrace product =
      record({.statics = statics,
              .loss = [=] { return torch::addmm(bias, weight.t(), weight).exp().sum(); }})
          .trace;
  REQUIRE(summed_in(product).forward_ops.empty());
}

TEST_CASE("in-place operators read what they write, unless they overwrite it") {
  const StepTrace trace = record(in_place_operators()).trace;
  const Op& product = first(trace, "aten::mul_");
  REQUIRE(product.writes.size() == 1);
  REQUIRE(holds(product.reads, product.writes.front()));
  REQUIRE(product.creates.empty());
  const Op& filled = first(trace, "aten::fill_");
  REQUIRE(filled.writes.size() == 1);
  REQUIRE(filled.reads.empty());
  // What made the filled storage took only the shape of another.
  const auto maker = std::find_if(trace.ops.begin(), trace.ops.end(), [&](const Op& op) {
    return holds(op.creates, filled.writes.front());
  });
  REQUIRE(maker != trace.ops.end());
  REQUIRE(maker->reads.empty());
}

TEST_CASE("batch norm's running values and counters are statistics, though the schema is silent") {
  const StepTrace trace = record(convolutions()).trace;
  const Op& norm = first(trace, "aten::native_batch_norm");
  const StorageId mean = named(trace, "1.running_mean");
  const StorageId variance = named(trace, "1.running_var");
  REQUIRE((norm.writes == std::vector<StorageId>{mean, variance}));
  REQUIRE(holds(norm.reads, mean));
  REQUIRE(norm.flags.statistics);
  const Op& counter = first(trace, "aten::add_");
  REQUIRE((counter.writes == std::vector<StorageId>{named(trace, "1.num_batches_tracked")}));
  REQUIRE(counter.flags.statistics);
  REQUIRE_FALSE(first(trace, "aten::relu_").flags.statistics);
}

TEST_CASE("only operators that really draw are random") {
  const StepTrace trace = record(multilayer_perceptron()).trace;
  std::size_t random = 0;
  for (const Op& op : trace.ops) random += op.flags.random ? 1 : 0;
  REQUIRE(random == 1);
  // Attention may draw, says its tag; without dropout it does not.
  for (const Op& op : record(attention(0)).trace.ops) REQUIRE_FALSE(op.flags.random);
}

TEST_CASE("a Python number that became a tensor is a constant with its value") {
  const at::Tensor weight = torch::ones({4}).requires_grad_();
  const auto loss = [=] { return weight.mul(at::native::wrapped_scalar_tensor(3.0)).sum(); };
  const StepTrace trace =
      record({.statics = {{"weight", Role::parameter, weight}}, .loss = loss}).trace;
  const Op& product = first(trace, "aten::mul");
  const Storage& number = storage(trace, product.reads.back());
  REQUIRE(number.role == Role::constant);
  const double three = 3.0;
  std::vector<std::uint8_t> bytes(sizeof(three));
  std::memcpy(bytes.data(), &three, sizeof(three));
  REQUIRE(number.value == bytes);
  REQUIRE(std::get<TensorView>(product.call->arguments[1].value).is_wrapped_number);
}

TEST_CASE("tied weights are one storage with one gradient") {
  const StepTrace trace = record(attention(0)).trace;
  const StorageId tied = named(trace, "0.weight");
  REQUIRE(std::count_if(trace.gradients.begin(), trace.gradients.end(),
                        [&](const auto& entry) { return entry.first == tied; }) == 1);
  for (const auto& [parameter, view] : trace.gradients) {
    REQUIRE(storage(trace, parameter).role == Role::parameter);
    REQUIRE(storage(trace, view.storage).role == Role::gradient);
    REQUIRE(holds(trace.keep, view.storage));
    REQUIRE_FALSE(storage(trace, view.storage).freed_after);
  }
  REQUIRE(holds(trace.keep, *trace.loss));
}

TEST_CASE("the allocations of a call add up to what it makes and to its scratch") {
  for (const StepTrace& trace : {record(convolutions()).trace, record(attention(0.1)).trace}) {
    for (const Op& op : trace.ops) {
      REQUIRE(op.allocations);
      Bytes level = 0;
      Bytes peak = 0;
      Bytes created = 0;
      std::vector<StorageId> made;
      for (const AllocationEvent& event : *op.allocations) {
        level += event.is_free ? -event.bytes : event.bytes;
        peak = std::max(peak, level);
        if (event.storage != no_storage) made.push_back(event.storage);
      }
      for (const StorageId id : op.creates) {
        const Bytes bytes = storage(trace, id).bytes;
        created += bytes;
        if (bytes > 0) REQUIRE(holds(made, id));
      }
      INFO(op.name);
      REQUIRE(level >= created);
      REQUIRE(op.workspace_bytes == peak - created);
    }
  }
}

TEST_CASE("values handed to the host are synchronisations") {
  const at::Tensor weight = torch::ones({4}).requires_grad_();
  const StepTrace trace = record({.statics = {{"weight", Role::parameter, weight}},
                                  .loss =
                                      [=] {
                                        const at::Tensor total = weight.sum();
                                        return total * total.item<float>();
                                      }})
                              .trace;
  REQUIRE(first(trace, "aten::_local_scalar_dense").flags.host_sync);
}

TEST_CASE("a generator of one's own is refused by the operator's name") {
  const at::Tensor weight = torch::ones({4}).requires_grad_();
  const at::Generator generator = at::detail::createCPUGenerator();
  REQUIRE_THROWS_WITH(
      record(
          {.statics = {{"weight", Role::parameter, weight}},
           .loss = [=] { return weight.mul(torch::empty({4}).uniform_(0, 1, generator)).sum(); }}),
      Catch::Contains("aten::uniform_") && Catch::Contains("default generator"));
}

// A program's node in a module, at the root or in blocks.0.
Node node_in(const std::vector<std::string>& paths) {
  Node node;
  for (const std::string& path : paths) node.module_stack.push_back({path, "Module"});
  return node;
}

TEST_CASE("a module's inputs are the tensors that were made outside it") {
  const at::Tensor weight = torch::ones({4, 4}).requires_grad_();
  const at::Tensor x = torch::ones({2, 4});
  const std::vector<StaticTensor> statics{{"weight", Role::parameter, weight},
                                          {"x", Role::input, x}};
  const Node root = node_in({""});
  const Node block = node_in({"", "block"});
  const Node inner = node_in({"", "block", "block.inner"});
  const Node* current = nullptr;
  CountingAllocator::install();
  StepRecorder recorder(backend(), statics, [&] { return current; });
  current = &root;
  const at::Tensor h = torch::mm(x, weight);
  const at::Tensor turned = h.t();
  current = &block;
  const at::Tensor inside = torch::mm(turned, h);
  const at::Tensor view = inside.view({16});
  current = &inner;
  const at::Tensor sum = torch::cat({view, h.view({8})}).sum();
  current = nullptr;
  recorder.mark_loss(sum);
  recorder.set_phase(Phase::backward);
  sum.backward();
  const StepTrace trace = recorder.finish();

  const auto inputs_of = [&](const std::string& path) {
    const auto found = std::find_if(trace.modules.begin(), trace.modules.end(),
                                    [&](const Module& module) { return module.path == path; });
    REQUIRE(found != trace.modules.end());
    return found->inputs;
  };
  const Op& product = first(trace, "aten::mm");
  const StorageId h_storage = product.creates.front();
  // The root is given the batch; its parameter is its own.
  REQUIRE(inputs_of("").size() == 1);
  CHECK(inputs_of("").front().view.storage == named(trace, "x"));
  CHECK_FALSE(inputs_of("").front().is_view);
  REQUIRE(inputs_of("block").size() == 2);
  CHECK(inputs_of("block")[0].view.storage == h_storage);
  CHECK(inputs_of("block")[0].is_view);
  CHECK(inputs_of("block")[0].view.strides == std::vector<std::int64_t>{1, 4});
  CHECK(inputs_of("block")[1].view.storage == h_storage);
  CHECK_FALSE(inputs_of("block")[1].is_view);
  CHECK(inputs_of("block")[1].view.strides == std::vector<std::int64_t>{4, 1});
  // What its own node makes of h is the inner module's; what the block made is given to it.
  REQUIRE(inputs_of("block.inner").size() == 2);
  CHECK(inputs_of("block.inner")[0].view.storage == h_storage);
  CHECK(inputs_of("block.inner")[1].is_view);
  CHECK(inputs_of("block.inner")[1].view.sizes == std::vector<std::int64_t>{16});
}

TEST_CASE("integer inputs travel with their values, floating ones do not") {
  const StepTrace trace = record(multilayer_perceptron()).trace;
  REQUIRE(storage(trace, named(trace, "y")).value);
  REQUIRE_FALSE(storage(trace, named(trace, "x")).value);
}

}  // namespace
}  // namespace tidemark
