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

CallValue none() { return {NullValue{}}; }
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
  CHECK(mm.work == Work::matmul);
  CHECK(mm.dtype == half);
  CHECK(mm.operations == 2 * 30 * 20 * 10);
  CHECK(mm.bytes == 2 * (30 * 20 + 20 * 10 + 30 * 10));
  CHECK(work({"aten::addmm",
              {{view_of(3, {10})}, {view_of(0, {30, 20})}, {view_of(1, {20, 10})}},
              {view_of(2, {30, 10})},
              {}})
            .operations == 2 * 30 * 20 * 10);
  CHECK(work({"aten::bmm",
              {{view_of(0, {4, 30, 20})}, {view_of(1, {4, 20, 10})}},
              {view_of(2, {4, 30, 10})},
              {}})
            .operations == 4 * 2 * 30 * 20 * 10);
  CHECK(work({"aten::linear",
              {{view_of(0, {5, 6, 20})}, {view_of(1, {10, 20})}},
              {view_of(2, {5, 6, 10})},
              {}})
            .operations == 2 * 30 * 20 * 10);
}

TEST_CASE("convolutions take the weights of a channel for each output", "[time_model]") {
  const std::vector<CallValue> tail{none(), none(), none(), none(), flag(false)};
  std::vector<CallValue> arguments{{view_of(0, {2, 8, 16, 16})}, {view_of(1, {12, 8, 3, 3})}};
  arguments.insert(arguments.end(), tail.begin(), tail.end());
  const OpWork forward = work({"aten::convolution", arguments, {view_of(2, {2, 12, 16, 16})}, {}});
  CHECK(forward.work == Work::convolution);
  CHECK(forward.operations == 2.0 * (2 * 12 * 16 * 16) * (8 * 3 * 3));
  // Grouped: a channel has the weights of its group.
  arguments[1] = {view_of(1, {12, 4, 3, 3})};
  CHECK(work({"aten::convolution", arguments, {view_of(2, {2, 12, 16, 16})}, {}}).operations ==
        2.0 * (2 * 12 * 16 * 16) * (4 * 3 * 3));
  // Transposed: each input element is scattered.
  arguments[1] = {view_of(1, {8, 5, 3, 3})};
  arguments[6] = flag(true);
  CHECK(work({"aten::convolution", arguments, {view_of(2, {2, 5, 32, 32})}, {}}).operations ==
        2.0 * (2 * 8 * 16 * 16) * (5 * 3 * 3));
}

TEST_CASE("a convolution's wanted gradients cost as much as it does", "[time_model]") {
  const auto backward = [](bool wants_input, bool wants_weight) {
    return work({"aten::convolution_backward",
                 {{view_of(3, {2, 12, 16, 16})},
                  {view_of(0, {2, 8, 16, 16})},
                  {view_of(1, {12, 8, 3, 3})},
                  none(),
                  none(),
                  none(),
                  none(),
                  flag(false),
                  none(),
                  none(),
                  flags({wants_input, wants_weight, true})},
                 {view_of(4, {12, 8, 3, 3})},
                 {}})
        .operations;
  };
  const double once = 2.0 * (2 * 12 * 16 * 16) * (8 * 3 * 3);
  CHECK(backward(true, true) == 2 * once);
  CHECK(backward(false, true) == once);
}

TEST_CASE("attention multiplies every query with every key", "[time_model]") {
  const TensorView query = view_of(0, {2, 3, 64, 16});
  const TensorView key = view_of(1, {2, 3, 32, 16});
  const TensorView value = view_of(2, {2, 3, 32, 8});
  const double pairs = 2 * 3 * 64 * 32;
  const auto forward = [&](bool is_causal) {
    return work({"aten::_scaled_dot_product_flash_attention",
                 {{query}, {key}, {value}, {0.0}, flag(is_causal)},
                 {view_of(3, {2, 3, 64, 8})},
                 {}});
  };
  CHECK(forward(false).work == Work::attention);
  CHECK(forward(false).operations == 2 * pairs * (16 + 8));
  CHECK(forward(true).operations == pairs * (16 + 8));
  const OpWork efficient = work({"aten::_scaled_dot_product_efficient_attention",
                                 {{query}, {key}, {value}, none(), flag(true), {0.0}, flag(false)},
                                 {view_of(3, {2, 3, 64, 8})},
                                 {}});
  CHECK(efficient.operations == 2 * pairs * (16 + 8));  // the log-sum-exp flag is no mask
  const OpWork backward = work(
      {"aten::_scaled_dot_product_flash_attention_for_cpu_backward",
       {{view_of(4, {2, 3, 64, 8})}, {query}, {key}, {value}, none(), none(), {0.0}, flag(true)},
       {view_of(5, {2, 3, 64, 16})},
       {}});
  CHECK(backward.operations == pairs * (3 * 16 + 2 * 8));
}

TEST_CASE("everything else reads and writes", "[time_model]") {
  const OpWork add =
      work({"aten::add", {{view_of(0, {100})}, {view_of(1, {100})}}, {view_of(2, {100})}, {}});
  CHECK(add.work == Work::memory);
  CHECK(add.operations == 0);
  CHECK(add.bytes == 1200);
  // In place: read and written.
  CHECK(work({"aten::relu_", {{view_of(0, {100})}}, {}, {StorageId{0}}}).bytes == 800);
  // Expanded: the same bytes again.
  TensorView expanded = view_of(1, {50, 2});
  expanded.strides = {0, 1};
  CHECK(work({"aten::mul", {{view_of(0, {50, 2})}, {expanded}}, {view_of(2, {50, 2})}, {}}).bytes ==
        400 + 8 + 400);
  // A look-up touches the rows that it returns.
  CHECK(work({"aten::embedding",
              {{view_of(0, {50000, 4})}, {view_of(1, {10}, ScalarType::int64)}},
              {view_of(2, {10, 4})},
              {}})
            .bytes == 160 + 80 + 160);
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
  CHECK(work_of(trace, op) ==
        OpWork{.work = Work::memory, .dtype = ScalarType::float32, .operations = 0, .bytes = 150});
}

MachineRates simple_rates() {
  MachineRates rates;
  rates.launch_seconds = 1e-6;
  rates.curves = {
      {.work = Work::matmul, .dtype = ScalarType::float32, .points = {{1e6, 1e9}, {1e8, 3e9}}},
      {.work = Work::memory, .dtype = ScalarType::float32, .points = {{1, 1e9}}}};
  return rates;
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

TEST_CASE("rates change with the size between two points", "[time_model]") {
  const MachineRates rates = simple_rates();
  const auto rate = [&](double amount) {
    return *rate_for(rates, Work::matmul, ScalarType::float32, amount);
  };
  CHECK(rate(1) == 1e9);
  CHECK(rate(1e6) == 1e9);
  CHECK(rate(1e7) == Approx(2e9));
  CHECK(rate(1e8) == Approx(3e9));
  CHECK(rate(1e12) == 3e9);
}

TEST_CASE("a missing rate is served by the nearest kind", "[time_model]") {
  const MachineRates rates = simple_rates();
  CHECK(rate_for(rates, Work::attention, ScalarType::float32, 1) == 1e9);
  CHECK(rate_for(rates, Work::convolution, ScalarType::float16, 1e9) == 3e9);
  CHECK_FALSE(rate_for({}, Work::memory, ScalarType::float32, 1));
  // Without any rate there is still the launch.
  MachineRates launch_only;
  launch_only.launch_seconds = 2e-6;
  CHECK(modelled_duration({}, op_of({"aten::relu", {{view_of(0, {9})}}, {view_of(1, {9})}, {}}),
                          launch_only)
            .count() == 2000);
}

TEST_CASE("every known card gives every kind of rate", "[time_model]") {
  for (const GpuProfile& profile : gpu_profiles()) {
    INFO(profile.name);
    const MachineRates rates = rates_of(profile);
    CHECK(rates.launch_seconds > 0);
    for (std::size_t w = 0; w < work_count; ++w) {
      for (const ScalarType dtype :
           {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16}) {
        const auto rate = rate_for(rates, static_cast<Work>(w), dtype, 1e9);
        REQUIRE(rate);
        CHECK(*rate > 0);
      }
    }
    // What is modelled stays below the data sheet.
    CHECK(*rate_for(rates, Work::matmul, ScalarType::bfloat16, 1e12) < profile.dense.fp16);
    CHECK(*rate_for(rates, Work::memory, ScalarType::float32, 1e9) <
          profile.memory_bytes_per_second);
  }
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
