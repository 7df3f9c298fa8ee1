#include "call_values.hpp"

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "counting_allocator.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {
namespace {

const c10::Argument& argument(const char* name, const char* overload, const char* argument_name) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
  const c10::FunctionSchema& schema = op.schema();
  return schema.arguments()[static_cast<std::size_t>(*schema.argumentIndexWithName(argument_name))];
}

StorageId seventh(const at::Tensor&) { return StorageId{7}; }

at::Tensor no_tensor(const TensorView&) { throw InternalError("no tensor is expected"); }

CallValue kept(const c10::IValue& value, const c10::Argument& slot) {
  return to_call_value(value, *slot.real_type(), seventh);
}

c10::IValue boxed(const CallValue& value, const c10::Argument& slot) {
  return to_ivalue(value, *slot.real_type(), no_tensor);
}

TEST_CASE("integer and floating scalars stay distinct both ways") {
  const c10::Argument& alpha = argument("aten::add", "Tensor", "alpha");
  REQUIRE(kept(c10::IValue(std::int64_t{2}), alpha) == CallValue{std::int64_t{2}});
  REQUIRE(kept(c10::IValue(2.0), alpha) == CallValue{2.0});
  REQUIRE(boxed({std::int64_t{2}}, alpha).isInt());
  REQUIRE(boxed({2.0}, alpha).isDouble());
}

TEST_CASE("element types, layouts, memory formats and devices are told from plain integers") {
  const c10::Argument& dtype = argument("aten::zeros", "", "dtype");
  const c10::Argument& layout = argument("aten::zeros", "", "layout");
  const c10::Argument& device = argument("aten::zeros", "", "device");
  const c10::Argument& format = argument("aten::clone", "", "memory_format");
  const c10::IValue bfloat16 = static_cast<std::int64_t>(at::kBFloat16);
  REQUIRE(kept(bfloat16, dtype) == CallValue{ScalarType::bfloat16});
  REQUIRE(boxed({ScalarType::bfloat16}, dtype).toInt() == bfloat16.toInt());
  REQUIRE(kept(static_cast<std::int64_t>(at::kStrided), layout) == CallValue{Layout::strided});
  const c10::IValue last = static_cast<std::int64_t>(at::MemoryFormat::ChannelsLast);
  REQUIRE(kept(last, format) == CallValue{MemoryFormat::channels_last});
  REQUIRE(boxed({MemoryFormat::channels_last}, format).toInt() == last.toInt());
  REQUIRE(kept(c10::Device(c10::kCPU), device) == CallValue{DeviceValue{"cpu"}});
  REQUIRE(boxed({DeviceValue{"cpu"}}, device).toDevice() == c10::Device(c10::kCPU));
}

TEST_CASE("every element type of a trace has one counterpart in PyTorch") {
  for (int t = 0; t <= static_cast<int>(ScalarType::float8_e8m0fnu); ++t) {
    const auto type = static_cast<ScalarType>(t);
    REQUIRE(from_torch(to_torch(type)) == type);
    REQUIRE(element_bytes(type) == static_cast<Bytes>(c10::elementSize(to_torch(type))));
  }
  REQUIRE_THROWS_AS(from_torch(at::kQInt8), InputError);
}

TEST_CASE("an absent tensor is undefined in a tensor's slot and none in an optional one") {
  const c10::Argument& input = argument("aten::convolution", "", "input");
  const c10::Argument& bias = argument("aten::convolution", "", "bias");
  REQUIRE(kept(at::Tensor(), input) == CallValue{NullValue{}});
  REQUIRE(kept(c10::IValue(), bias) == CallValue{NullValue{}});
  REQUIRE(boxed({NullValue{}}, input).isTensor());
  REQUIRE_FALSE(boxed({NullValue{}}, input).toTensor().defined());
  REQUIRE(boxed({NullValue{}}, bias).isNone());
}

TEST_CASE("lists say what they hold, even when they are empty") {
  const c10::Argument& stride = argument("aten::convolution", "", "stride");
  const c10::Argument& mask = argument("aten::convolution_backward", "", "output_mask");
  const c10::Argument& tensors = argument("aten::cat", "", "tensors");
  const c10::Argument& indices = argument("aten::index", "Tensor", "indices");
  const c10::Argument& scalars = argument("aten::_foreach_add", "ScalarList", "scalars");
  const auto list = [](const CallValue& value) { return std::get<CallList>(value.value); };

  const CallValue two = kept(std::vector<std::int64_t>{1, 2}, stride);
  REQUIRE(list(two) == CallList{"int", {{std::int64_t{1}}, {std::int64_t{2}}}});
  REQUIRE(boxed(two, stride).toIntVector() == std::vector<std::int64_t>{1, 2});
  REQUIRE(list(kept(std::vector<std::int64_t>{}, stride)) == CallList{"int", {}});
  REQUIRE(boxed({CallList{"int", {}}}, stride).isIntList());

  const CallValue flags = kept(c10::List<bool>({true, false, true}), mask);
  REQUIRE(list(flags) == CallList{"bool", {{true}, {false}, {true}}});
  REQUIRE(boxed(flags, mask).isBoolList());

  REQUIRE(list(kept(c10::List<at::Tensor>(), tensors)).of == "tensor");
  REQUIRE(boxed({CallList{"tensor", {}}}, tensors).isTensorList());

  c10::List<std::optional<at::Tensor>> positions;
  positions.push_back(std::nullopt);
  const CallValue picked = kept(positions, indices);
  REQUIRE(list(picked) == CallList{"tensor?", {{NullValue{}}}});
  REQUIRE(boxed(picked, indices).toOptionalTensorVector().size() == 1);

  const CallList mixed{"scalar", {{std::int64_t{1}}, {0.5}}};
  const c10::IValue numbers = boxed({mixed}, scalars);
  REQUIRE(numbers.toListRef()[0].isInt());
  REQUIRE(numbers.toListRef()[1].isDouble());
  REQUIRE(list(kept(numbers, scalars)) == mixed);
}

TEST_CASE("a view keeps geometry, wrapped numbers and lazy bits, and gives the same elements") {
  CountingAllocator::install();
  const at::Tensor base = torch::arange(24, torch::kFloat).view({4, 6});
  const at::Tensor window = base.t().slice(0, 1, 5, 2);
  const TensorView view = view_of(window, StorageId{3});
  REQUIRE(view.storage == StorageId{3});
  REQUIRE(view.sizes == std::vector<std::int64_t>{2, 4});
  REQUIRE(view.strides == std::vector<std::int64_t>{2, 6});
  REQUIRE(view.offset == 1);
  REQUIRE(torch::equal(tensor_over(view, base.storage()), window));

  const at::Tensor number = c10::scalar_to_tensor(at::Scalar(2.0));
  at::Tensor wrapped = number.clone();
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  const TensorView number_view = view_of(wrapped, StorageId{0});
  REQUIRE(number_view.is_wrapped_number);
  REQUIRE(tensor_over(number_view, wrapped.storage()).unsafeGetTensorImpl()->is_wrapped_number());

  const at::Tensor turned = torch::randn({3}, torch::kComplexFloat).conj();
  const TensorView turned_view = view_of(turned, StorageId{0});
  REQUIRE(turned_view.is_conjugated);
  REQUIRE(torch::equal(tensor_over(turned_view, turned.storage()), turned));
}

TEST_CASE("what a trace cannot hold is refused") {
  const c10::Argument& alpha = argument("aten::add", "Tensor", "alpha");
  const c10::Argument& self = argument("aten::add", "Tensor", "self");
  const c10::Argument& generator = argument("aten::bernoulli", "", "generator");
  REQUIRE_THROWS_AS(kept(c10::complex<double>(1, 2), alpha), InputError);
  REQUIRE_THROWS_AS(kept(torch::ones({2, 2}).to_sparse(), self), InputError);
  REQUIRE_THROWS_AS(kept(at::detail::createCPUGenerator(), generator), InputError);
  REQUIRE(kept(at::detail::getDefaultCPUGenerator(), generator) == CallValue{DefaultGenerator{}});
  REQUIRE(boxed({DefaultGenerator{}}, generator).toGenerator() ==
          at::detail::getDefaultCPUGenerator());
}

}  // namespace
}  // namespace tidemark
