// Operations and bytes of calls, by hand, and durations at given rates.
#include "tidemark/time_model.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace tidemark {
namespace {

TensorView view_of(int storage, std::vector<std::int64_t> sizes,
                   ScalarType dtype = ScalarType::float32) {
  TensorView view{.storage = make_id<StorageId>(static_cast<std::size_t>(storage)),
                  .dtype = dtype,
                  .sizes = std::move(sizes),
                  .strides = {}};
  view.strides.assign(view.sizes.size(), 1);
  for (std::size_t d = view.sizes.size(); d > 1; --d) {
    view.strides[d - 2] = view.strides[d - 1] * view.sizes[d - 1];
  }
  return view;
}

// An operator that reads every tensor argument and creates its result, unless told otherwise.
struct TimedCall {
  std::string name;
  std::vector<CallValue> arguments;
  std::vector<TensorView> results;
  std::vector<StorageId> writes;
};

Op op_of(const TimedCall& given) {
  Op op;
  op.name = given.name;
  op.writes = given.writes;
  op.call = Call{.overload = "", .arguments = given.arguments, .results = {}};
  for (const CallValue& argument : given.arguments) {
    if (const auto* view = std::get_if<TensorView>(&argument.value)) {
      op.reads.push_back(view->storage);
    }
  }
  for (const TensorView& view : given.results) {
    op.creates.push_back(view.storage);
    op.call->results.push_back({view});
  }
  return op;
}

OpWork work(const TimedCall& given) { return work_of(StepTrace{}, op_of(given)); }

// Of calls that do one kind of work.
WorkPart only_part(const TimedCall& given) {
  const OpWork done = work(given);
  REQUIRE(done.parts.size() == 1);
  return done.parts.front();
}

WorkPart part(Work work, double amount, double width = 0) {
  return {.work = work, .amount = amount, .width = width};
}

CallValue none() { return {NullValue{}}; }
CallValue integer(std::int64_t value) { return {value}; }
CallValue text(const std::string& value) { return {value}; }
CallValue flag(bool value) { return {value}; }
CallValue flags(std::vector<bool> values) {
  CallList list{.of = "bool", .items = {}};
  for (const bool value : values) list.items.push_back({value});
  return {list};
}

TEST_CASE("matrix products take two operations for each pair", "[time_model]") {
  const ScalarType half = ScalarType::bfloat16;
  const OpWork mm = work({"aten::mm",
                          {{view_of(0, {30, 20}, half)}, {view_of(1, {20, 10}, half)}},
                          {view_of(2, {30, 10}, half)},
                          {}});
  CHECK(mm.parts == std::vector{part(Work::matmul, 2 * 30 * 20 * 10, 10)});
  CHECK(mm.dtype == half);
  CHECK(mm.bytes == 2 * (30 * 20 + 20 * 10 + 30 * 10));
  CHECK(only_part({"aten::addmm",
                   {{view_of(3, {10})}, {view_of(0, {30, 20})}, {view_of(1, {20, 10})}},
                   {view_of(2, {30, 10})},
                   {}}) == part(Work::matmul, 2 * 30 * 20 * 10, 10));
  // The narrowest side is that of one matrix, not of the batch.
  CHECK(only_part({"aten::bmm",
                   {{view_of(0, {4, 30, 20})}, {view_of(1, {4, 20, 50})}},
                   {view_of(2, {4, 30, 50})},
                   {}}) == part(Work::matmul, 4 * 2 * 30 * 20 * 50, 20));
  CHECK(only_part({"aten::linear",
                   {{view_of(0, {5, 6, 40})}, {view_of(1, {50, 40})}},
                   {view_of(2, {5, 6, 50})},
                   {}}) == part(Work::matmul, 2 * 30 * 40 * 50, 30));
}

TEST_CASE("convolutions take the weights of a channel for each output", "[time_model]") {
  std::vector<CallValue> arguments{{view_of(0, {2, 8, 16, 16})},
                                   {view_of(1, {12, 8, 3, 3})},
                                   none(),
                                   none(),
                                   none(),
                                   none(),
                                   flag(false),
                                   none(),
                                   integer(1)};
  const auto forward = [&](std::vector<std::int64_t> result) {
    return only_part({"aten::convolution", arguments, {view_of(2, std::move(result))}, {}});
  };
  CHECK(forward({2, 12, 16, 16}) ==
        part(Work::convolution, 2.0 * (2 * 12 * 16 * 16) * (8 * 3 * 3), 12));
  // Grouped: a channel has the weights of its group, and a group a third of the channels.
  arguments[1] = {view_of(1, {12, 4, 3, 3})};
  arguments[8] = integer(3);
  CHECK(forward({2, 12, 16, 16}) ==
        part(Work::convolution, 2.0 * (2 * 12 * 16 * 16) * (4 * 3 * 3), 4));
  // Transposed: each input element is scattered.
  arguments[1] = {view_of(1, {8, 5, 3, 3})};
  arguments[6] = flag(true);
  arguments[8] = integer(1);
  CHECK(forward({2, 5, 32, 32}) ==
        part(Work::convolution, 2.0 * (2 * 8 * 16 * 16) * (5 * 3 * 3), 8));
}

TEST_CASE("a convolution's wanted gradients cost as much as it does", "[time_model]") {
  const auto backward = [](bool wants_input, bool wants_weight) {
    return only_part({"aten::convolution_backward",
                      {{view_of(3, {2, 12, 16, 16})},
                       {view_of(0, {2, 8, 16, 16})},
                       {view_of(1, {12, 8, 3, 3})},
                       none(),
                       none(),
                       none(),
                       none(),
                       flag(false),
                       none(),
                       integer(1),
                       flags({wants_input, wants_weight, true})},
                      {view_of(4, {12, 8, 3, 3})},
                      {}});
  };
  const double once = 2.0 * (2 * 12 * 16 * 16) * (8 * 3 * 3);
  CHECK(backward(true, true) == part(Work::convolution_backward, 2 * once, 12));
  CHECK(backward(false, true) == part(Work::convolution_backward, once, 12));
}

TEST_CASE("attention multiplies every query with every key", "[time_model]") {
  const TensorView query = view_of(0, {2, 3, 64, 16});
  const TensorView key = view_of(1, {2, 3, 32, 16});
  const TensorView value = view_of(2, {2, 3, 32, 8});
  const double pairs = 2 * 3 * 64 * 32;
  const auto forward = [&](bool is_causal) {
    return only_part({"aten::_scaled_dot_product_flash_attention",
                      {{query}, {key}, {value}, {0.0}, flag(is_causal)},
                      {view_of(3, {2, 3, 64, 8})},
                      {}});
  };
  CHECK(forward(false) == part(Work::attention, 2 * pairs * (16 + 8), 16));
  CHECK(forward(true) == part(Work::attention, pairs * (16 + 8), 16));
  // The log-sum-exp flag is no mask.
  CHECK(only_part({"aten::_scaled_dot_product_efficient_attention",
                   {{query}, {key}, {value}, none(), flag(true), {0.0}, flag(false)},
                   {view_of(3, {2, 3, 64, 8})},
                   {}}) == part(Work::attention, 2 * pairs * (16 + 8), 16));
  CHECK(only_part({"aten::_scaled_dot_product_flash_attention_for_cpu_backward",
                   {{view_of(4, {2, 3, 64, 8})},
                    {query},
                    {key},
                    {value},
                    none(),
                    none(),
                    {0.0},
                    flag(true)},
                   {view_of(5, {2, 3, 64, 16})},
                   {}}) == part(Work::attention_backward, pairs * (3 * 16 + 2 * 8), 16));
}

TEST_CASE("most operators read and write", "[time_model]") {
  const OpWork add =
      work({"aten::add", {{view_of(0, {100})}, {view_of(1, {100})}}, {view_of(2, {100})}, {}});
  CHECK(add.parts.empty());
  CHECK(add.bytes == 1200);
  // In place: read and written.
  CHECK(work({"aten::relu_", {{view_of(0, {100})}}, {}, {StorageId{0}}}).bytes == 800);
  // Expanded: the same bytes again.
  TensorView expanded = view_of(1, {50, 2});
  expanded.strides = {0, 1};
  const OpWork mul =
      work({"aten::mul", {{view_of(0, {50, 2})}, {expanded}}, {view_of(2, {50, 2})}, {}});
  CHECK(mul.bytes == 400 + 8 + 400);
  CHECK(mul.parts.empty());
  // A look-up touches the rows that it returns.
  const OpWork embedding = work({"aten::embedding",
                                 {{view_of(0, {50000, 4})}, {view_of(1, {10}, ScalarType::int64)}},
                                 {view_of(2, {10, 4})},
                                 {}});
  CHECK(embedding.bytes == 160 + 80 + 160);
  CHECK(embedding.parts.empty());
}

TEST_CASE("some operators do more with each element", "[time_model]") {
  const TensorView x = view_of(0, {20, 30});
  const TensorView y = view_of(1, {20, 30});
  CHECK(only_part({"aten::exp", {{x}}, {y}, {}}) == part(Work::exponential, 600));
  CHECK(only_part({"aten::sigmoid_", {{x}}, {x}, {StorageId{0}}}) == part(Work::exponential, 600));
  CHECK(only_part({"aten::gelu", {{x}, text("none")}, {y}, {}}) == part(Work::exponential, 600));
  CHECK(only_part({"aten::gelu", {{x}, text("tanh")}, {y}, {}}) == part(Work::tanh, 600));
  CHECK(only_part({"aten::gelu_backward", {{y}, {x}, text("tanh")}, {view_of(2, {20, 30})}, {}}) ==
        part(Work::tanh, 600));
  CHECK(only_part({"aten::native_layer_norm", {{x}, none(), none(), none(), {1e-5}}, {y}, {}}) ==
        part(Work::layer_norm, 600));
  CHECK(only_part({"aten::native_batch_norm",
                   {{view_of(0, {2, 3, 4, 5})}},
                   {view_of(1, {2, 3, 4, 5})},
                   {}}) == part(Work::batch_norm, 120));
  // Softmax that looks for masked rows: compares, reduces, and chooses.
  CHECK(work({"aten::_safe_softmax", {{x}}, {y}, {}}).parts ==
        std::vector{part(Work::exponential, 600), part(Work::indexed, 600),
                    part(Work::indexed, 600), part(Work::indexed, 600)});
  // The gradient's elements go into the table one by one; most of the table is only cleared.
  CHECK(only_part({"aten::embedding_dense_backward",
                   {{x}, {view_of(1, {20}, ScalarType::int64)}},
                   {view_of(2, {5000, 30})},
                   {}}) == part(Work::indexed, 600));
  // 3 by 3, and a single side for both.
  CallList sides{.of = "int", .items = {integer(3), integer(3)}};
  const TensorView image = view_of(0, {2, 8, 32, 32});
  const TensorView pooled = view_of(1, {2, 8, 16, 16});
  CHECK(only_part({"aten::max_pool2d_with_indices", {{image}, {sides}}, {pooled}, {}}) ==
        part(Work::pooling, 2 * 8 * 16 * 16 * 9));
  sides.items.pop_back();
  CHECK(only_part({"aten::avg_pool2d", {{image}, {sides}}, {pooled}, {}}) ==
        part(Work::pooling, 2 * 8 * 16 * 16 * 9));
}

TEST_CASE("random operators draw a number for each element", "[time_model]") {
  Op op = op_of({"aten::bernoulli_",
                 {{view_of(0, {20, 30})}, {0.9}},
                 {view_of(0, {20, 30})},
                 {StorageId{0}}});
  CHECK(work_of({}, op).parts.empty());
  op.flags.random = true;
  CHECK(work_of({}, op).parts == std::vector{part(Work::random, 600)});
  // Attention that may drop out stays attention.
  const TensorView query = view_of(0, {2, 3, 64, 16});
  Op attention = op_of({"aten::_scaled_dot_product_flash_attention",
                        {{query}, {query}, {query}, {0.1}, flag(false)},
                        {view_of(3, {2, 3, 64, 16})},
                        {}});
  attention.flags.random = true;
  CHECK(work_of({}, attention).parts.front().work == Work::attention);
}

TEST_CASE("copies that transpose pick their elements one by one", "[time_model]") {
  const TensorView made = view_of(1, {20, 30});
  TensorView turned = view_of(0, {20, 30});
  turned.strides = {1, 20};
  CHECK(only_part({"aten::clone", {{turned}}, {made}, {}}) == part(Work::indexed, 600));
  // Rows stay rows, wherever they lie.
  TensorView spread = view_of(0, {20, 30});
  spread.strides = {90, 1};
  CHECK(work({"aten::clone", {{spread}}, {made}, {}}).parts.empty());
  // Both turned: neighbours stay neighbours.
  TensorView made_turned = made;
  made_turned.strides = {1, 20};
  CHECK(work({"aten::clone", {{turned}}, {made_turned}, {}}).parts.empty());
  // Sums are not copies.
  CHECK(work({"aten::sum", {{turned}}, {view_of(1, {20})}, {}}).parts.empty());
}

TEST_CASE("without a call the storages give the bytes", "[time_model]") {
  StepTrace trace;
  trace.storages.resize(2);
  trace.storages[0].bytes = 100;
  trace.storages[1].bytes = 50;
  Op op;
  op.name = "aten::mm";
  op.reads = {StorageId{0}};
  op.creates = {StorageId{1}};
  CHECK(work_of(trace, op) == OpWork{.dtype = ScalarType::float32, .parts = {}, .bytes = 150});
}

RateCurve curve(Work work, std::vector<RatePoint> points, double width = 0) {
  return {.work = work, .dtype = ScalarType::float32, .width = width, .points = std::move(points)};
}

// As a file has them that knows only products and memory.
MachineRates simple_rates() {
  MachineRates rates;
  rates.launch_seconds = 1e-6;
  rates.curves = {curve(Work::matmul, {{1e6, 1e9}, {1e8, 4e9}}), curve(Work::memory, {{1, 1e9}})};
  return rates;
}

std::optional<double> rate(const MachineRates& rates, const WorkPart& part) {
  return rate_for(rates, part, ScalarType::float32);
}

TEST_CASE("the longest of launching, moving and computing counts", "[time_model]") {
  const auto nanoseconds = [](const TimedCall& given) {
    return modelled_duration(StepTrace{}, op_of(given), simple_rates()).count();
  };
  CHECK(nanoseconds({"aten::relu", {{view_of(0, {10})}}, {view_of(1, {10})}, {}}) == 1000);
  CHECK(nanoseconds({"aten::relu", {{view_of(0, {1000})}}, {view_of(1, {1000})}, {}}) == 8000);
  // 1e6 operations at 1e9 a second.
  CHECK(nanoseconds({"aten::mm",
                     {{view_of(0, {100, 50})}, {view_of(1, {50, 100})}},
                     {view_of(2, {100, 100})},
                     {}}) == 1000000);
}

TEST_CASE("work that only a processor does slowly has rates of its own", "[time_model]") {
  const TimedCall softmax{"aten::_safe_softmax", {{view_of(0, {1000})}}, {view_of(1, {1000})}, {}};
  MachineRates rates = simple_rates();
  const auto nanoseconds = [&] {
    return modelled_duration(StepTrace{}, op_of(softmax), rates).count();
  };
  CHECK(nanoseconds() == 8000);  // no such rates: 8000 bytes
  rates.curves.push_back(curve(Work::exponential, {{1, 1e8}}));
  CHECK(nanoseconds() == 10000);
  rates.curves.push_back(curve(Work::indexed, {{1, 1e9}}));
  CHECK(nanoseconds() == 13000);  // one after the other
}

TEST_CASE("rates change with the size between two points", "[time_model]") {
  const MachineRates rates = simple_rates();
  const auto of = [&](double amount) { return *rate(rates, part(Work::matmul, amount)); };
  CHECK(of(1) == 1e9);
  CHECK(of(1e6) == 1e9);
  CHECK(of(1e7) == Approx(2e9));
  CHECK(of(1e8) == Approx(4e9));
  CHECK(of(1e12) == 4e9);
}

TEST_CASE("rates change with the width between two curves", "[time_model]") {
  MachineRates rates;
  rates.curves = {curve(Work::matmul, {{1, 8e9}}, 128), curve(Work::matmul, {{1, 2e9}}, 8)};
  const auto of = [&](double width) { return *rate(rates, part(Work::matmul, 1e6, width)); };
  CHECK(of(1) == 2e9);
  CHECK(of(8) == 2e9);
  CHECK(of(32) == Approx(4e9));
  CHECK(of(128) == Approx(8e9));
  CHECK(of(4096) == 8e9);
  // What has no width, as in an older file, serves below the narrowest.
  rates.curves.push_back(curve(Work::matmul, {{1, 1e9}}));
  CHECK(of(0) == 1e9);
  CHECK(of(128) == Approx(8e9));
}

TEST_CASE("a missing rate is served by the nearest kind", "[time_model]") {
  MachineRates rates = simple_rates();
  CHECK(rate(rates, part(Work::attention, 1)) == 1e9);
  CHECK(rate(rates, part(Work::attention_backward, 1)) == 1e9);
  CHECK(rate_for(rates, part(Work::convolution, 1e9), ScalarType::float16) == 4e9);
  rates.curves.push_back(curve(Work::convolution, {{1, 5e9}}));
  CHECK(rate(rates, part(Work::convolution_backward, 1)) == 5e9);
  // Nothing serves for work that is no product: it goes at the memory's speed.
  CHECK_FALSE(rate(rates, part(Work::random, 1)));
  CHECK_FALSE(rate({}, part(Work::memory, 1)));
  // Without any rate there is still the launch.
  MachineRates launch_only;
  launch_only.launch_seconds = 2e-6;
  CHECK(modelled_duration({}, op_of({"aten::relu", {{view_of(0, {9})}}, {view_of(1, {9})}, {}}),
                          launch_only)
            .count() == 2000);
}

TEST_CASE("every known card gives the rates of products and memory", "[time_model]") {
  for (const GpuProfile& profile : gpu_profiles()) {
    INFO(profile.name);
    const MachineRates rates = rates_of(profile);
    CHECK(rates.launch_seconds > 0);
    for (std::size_t w = 0; w < work_count; ++w) {
      const auto kind = static_cast<Work>(w);
      for (const ScalarType dtype :
           {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16}) {
        const auto rate = rate_for(rates, part(kind, 1e9), dtype);
        if (rate) CHECK(*rate > 0);
        CHECK(rate.has_value() == (kind <= Work::memory));  // the rest is at the memory's speed
      }
    }
    // What is modelled stays below the data sheet.
    CHECK(*rate_for(rates, part(Work::matmul, 1e12), ScalarType::bfloat16) < profile.dense.fp16);
    CHECK(*rate(rates, part(Work::memory, 1e9)) < profile.memory_bytes_per_second);
  }
}

TEST_CASE("a data sheet made of achieved rates gives them back", "[time_model]") {
  for (const GpuProfile& profile : gpu_profiles()) {
    INFO(profile.name);
    const MachineRates achieved = rates_of(profile);
    GpuProfile blank = profile;
    blank.dense = {};
    blank.memory_bytes_per_second = 0;
    blank.pinned = {};
    blank.pageable = {};
    const GpuProfile again = with_rates(blank, achieved);
    CHECK(again.dense.fp64 == Approx(profile.dense.fp64));
    CHECK(again.dense.fp32 == Approx(profile.dense.fp32));
    CHECK(again.dense.tf32 == Approx(profile.dense.tf32));
    CHECK(again.dense.fp16 == Approx(profile.dense.fp16));
    // Derived where it exists: twice fp16, within what data sheets round.
    CHECK(again.dense.fp8 == Approx(profile.dense.fp8).epsilon(0.03));
    CHECK(again.memory_bytes_per_second == Approx(profile.memory_bytes_per_second));
    CHECK(again.pinned == profile.pinned);
    CHECK(again.pageable == profile.pageable);
  }
}

TEST_CASE("a card's rates are those of its largest calls", "[time_model]") {
  MachineRates achieved;
  const auto add = [&](Work work, ScalarType dtype, double width, std::vector<RatePoint> points) {
    achieved.curves.push_back(
        {.work = work, .dtype = dtype, .width = width, .points = std::move(points)});
  };
  add(Work::matmul, ScalarType::bfloat16, 8, {{1e3, 1e9}, {1e6, 5e9}});
  add(Work::matmul, ScalarType::bfloat16, 512, {{1e3, 1e9}, {1e9, 7e11}});
  // From the cache the small ones come faster.
  add(Work::memory, ScalarType::float32, 0, {{1e6, 9e12}, {1e9, 8.5e11}});
  const GpuProfile card = with_rates(gpu_profile("a100-40g"), achieved);
  CHECK(card.dense.fp16 == Approx(1e12));
  CHECK(card.dense.fp8 == 0);
  CHECK(card.memory_bytes_per_second == Approx(1e12));
  CHECK(card.dense.fp64 == 0);
  // What was not measured stays.
  CHECK(card.pinned == gpu_profile("a100-40g").pinned);
}

TEST_CASE("a whole step can be timed anew", "[time_model]") {
  StepTrace trace;
  trace.ops = {op_of({"aten::relu", {{view_of(0, {1000})}}, {view_of(1, {1000})}, {}})};
  MachineRates rates = simple_rates();
  rates.transfer_rates = TransferRates{1, 2, 3, 4};
  const StepTrace timed = with_modelled_times(trace, rates);
  CHECK(timed.ops[0].duration.count() == 8000);
  CHECK(timed.device.transfer_rates == rates.transfer_rates);
  CHECK_FALSE(timed.device.copy_bytes_per_second);
}

}  // namespace
}  // namespace tidemark
