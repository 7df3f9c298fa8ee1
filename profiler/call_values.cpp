#include "call_values.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorUtils.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

struct TypePair {
  ScalarType ours;
  at::ScalarType torch;
};

constexpr TypePair type_pairs[] = {
    {ScalarType::uint8, at::kByte},
    {ScalarType::int8, at::kChar},
    {ScalarType::int16, at::kShort},
    {ScalarType::int32, at::kInt},
    {ScalarType::int64, at::kLong},
    {ScalarType::float16, at::kHalf},
    {ScalarType::float32, at::kFloat},
    {ScalarType::float64, at::kDouble},
    {ScalarType::complex32, at::kComplexHalf},
    {ScalarType::complex64, at::kComplexFloat},
    {ScalarType::complex128, at::kComplexDouble},
    {ScalarType::boolean, at::kBool},
    {ScalarType::bfloat16, at::kBFloat16},
    {ScalarType::uint16, at::kUInt16},
    {ScalarType::uint32, at::kUInt32},
    {ScalarType::uint64, at::kUInt64},
    {ScalarType::float8_e4m3fn, at::kFloat8_e4m3fn},
    {ScalarType::float8_e5m2, at::kFloat8_e5m2},
    {ScalarType::float8_e4m3fnuz, at::kFloat8_e4m3fnuz},
    {ScalarType::float8_e5m2fnuz, at::kFloat8_e5m2fnuz},
    {ScalarType::float8_e8m0fnu, at::kFloat8_e8m0fnu},
};

struct FormatPair {
  MemoryFormat ours;
  at::MemoryFormat torch;
};

constexpr FormatPair format_pairs[] = {
    {MemoryFormat::contiguous, at::MemoryFormat::Contiguous},
    {MemoryFormat::preserve, at::MemoryFormat::Preserve},
    {MemoryFormat::channels_last, at::MemoryFormat::ChannelsLast},
    {MemoryFormat::channels_last_3d, at::MemoryFormat::ChannelsLast3d},
};

at::MemoryFormat to_torch_format(MemoryFormat format) {
  for (const FormatPair& pair : format_pairs) {
    if (pair.ours == format) return pair.torch;
  }
  throw InternalError("a memory format has no counterpart in PyTorch");
}

MemoryFormat from_torch_format(at::MemoryFormat format) {
  for (const FormatPair& pair : format_pairs) {
    if (pair.torch == format) return pair.ours;
  }
  throw InternalError("PyTorch gave a memory format that does not exist");
}

const c10::Type& without_optional(const c10::Type& type) {
  const auto* optional = type.castRaw<c10::OptionalType>();
  return optional == nullptr ? type : without_optional(*optional->getElementType());
}

bool is_optional(const c10::Type& type) { return type.kind() == c10::TypeKind::OptionalType; }

const c10::Type& element_type(const c10::Type& type) {
  const auto* list = type.castRaw<c10::ListType>();
  if (list == nullptr) throw InputError("an argument of type " + type.str() + " cannot be kept");
  return *list->getElementType();
}

std::string list_kind(const c10::Type& element) {
  switch (without_optional(element).kind()) {
    case c10::TypeKind::TensorType:
      return is_optional(element) ? "tensor?" : "tensor";
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return "int";
    case c10::TypeKind::FloatType:
      return "float";
    case c10::TypeKind::BoolType:
      return "bool";
    case c10::TypeKind::StringType:
      return "str";
    case c10::TypeKind::NumberType:
      return "scalar";
    default:
      throw InputError("a list of " + element.str() + " cannot be kept in a step trace");
  }
}

CallValue integer_value(std::int64_t number, const c10::Type& type) {
  switch (type.kind()) {
    case c10::TypeKind::ScalarTypeType:
      return {from_torch(static_cast<at::ScalarType>(number))};
    case c10::TypeKind::MemoryFormatType:
      return {from_torch_format(static_cast<at::MemoryFormat>(number))};
    case c10::TypeKind::LayoutType:
      if (static_cast<at::Layout>(number) != at::kStrided) {
        throw InputError("only strided tensors can be kept in a step trace");
      }
      return {Layout::strided};
    default:
      return {number};
  }
}

CallValue generator_value(const at::Generator& generator) {
  if (!generator.defined()) return {NullValue{}};
  if (generator != at::detail::getDefaultCPUGenerator()) {
    throw InputError(
        "it draws from a generator of its own; only PyTorch's default generator can be replayed");
  }
  return {DefaultGenerator{}};
}

CallValue list_value(const c10::IValue& value, const c10::Type& type,
                     const StorageNumbering& number_of) {
  const c10::Type& element = element_type(type);
  CallList list{.of = list_kind(element), .items = {}};
  if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorList()) {
      list.items.push_back(to_call_value(tensor, element, number_of));
    }
    return {std::move(list)};
  }
  const c10::ArrayRef<c10::IValue> items = value.toListRef();
  for (const c10::IValue& item : items) {
    list.items.push_back(to_call_value(item, element, number_of));
  }
  return {std::move(list)};
}

// Lists of integers, floats and truth values are boxed unpacked, so toListRef() refuses them.
template <typename Items>
CallValue plain_list_value(const Items& items, const c10::Type& type) {
  CallList list{.of = list_kind(element_type(type)), .items = {}};
  for (const auto item : items) list.items.push_back({item});
  return {std::move(list)};
}

template <typename T>
c10::IValue plain_list(const CallList& list) {
  c10::List<T> items;
  items.reserve(list.items.size());
  for (const CallValue& item : list.items) {
    const T* value = std::get_if<T>(&item.value);
    if (value == nullptr) throw InputError("a list of " + list.of + " holds something else");
    items.push_back(*value);
  }
  return items;
}

c10::IValue tensor_list(const CallList& list, const TensorMaker& make_tensor) {
  c10::List<at::Tensor> tensors;
  for (const CallValue& item : list.items) {
    const auto* view = std::get_if<TensorView>(&item.value);
    tensors.push_back(view == nullptr ? at::Tensor() : make_tensor(*view));
  }
  return tensors;
}

c10::IValue optional_tensor_list(const CallList& list, const TensorMaker& make_tensor) {
  c10::List<std::optional<at::Tensor>> tensors;
  for (const CallValue& item : list.items) {
    const auto* view = std::get_if<TensorView>(&item.value);
    tensors.push_back(view == nullptr ? std::nullopt : std::optional(make_tensor(*view)));
  }
  return tensors;
}

c10::IValue scalar_list(const CallList& list) {
  c10::impl::GenericList items(c10::NumberType::get());
  const TensorMaker no_tensors = [](const TensorView&) -> at::Tensor {
    throw InputError("a list of numbers holds a tensor");
  };
  for (const CallValue& item : list.items) {
    items.push_back(to_ivalue(item, *c10::NumberType::get(), no_tensors));
  }
  return items;
}

c10::IValue list_to_ivalue(const CallList& list, const TensorMaker& make_tensor) {
  if (list.of == "int") return plain_list<std::int64_t>(list);
  if (list.of == "float") return plain_list<double>(list);
  if (list.of == "bool") return plain_list<bool>(list);
  if (list.of == "str") return plain_list<std::string>(list);
  if (list.of == "tensor") return tensor_list(list, make_tensor);
  if (list.of == "tensor?") return optional_tensor_list(list, make_tensor);
  if (list.of == "scalar") return scalar_list(list);
  throw InputError("a call holds a list of the unknown kind " + list.of);
}

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

template <typename Value, typename Visit>
void visit_views(Value& value, const Visit& visit) {
  if (auto* view = std::get_if<TensorView>(&value.value)) {
    visit(*view);
  } else if (auto* list = std::get_if<CallList>(&value.value)) {
    for (auto& item : list->items) visit_views(item, visit);
  }
}

}  // namespace

at::ScalarType to_torch(ScalarType type) {
  for (const TypePair& pair : type_pairs) {
    if (pair.ours == type) return pair.torch;
  }
  throw InternalError("an element type has no counterpart in PyTorch");
}

ScalarType from_torch(at::ScalarType type) {
  for (const TypePair& pair : type_pairs) {
    if (pair.torch == type) return pair.ours;
  }
  throw InputError("tensors of " + std::string(c10::toString(type)) + " are not supported");
}

TensorView view_of(const at::Tensor& tensor, StorageId storage) {
  if (tensor.layout() != at::kStrided || !tensor.has_storage()) {
    throw InputError("only strided tensors are supported, not sparse, nested or opaque ones");
  }
  return {.storage = storage,
          .dtype = from_torch(tensor.scalar_type()),
          .sizes = tensor.sizes().vec(),
          .strides = tensor.strides().vec(),
          .offset = tensor.storage_offset(),
          .is_wrapped_number = tensor.unsafeGetTensorImpl()->is_wrapped_number(),
          .is_conjugated = tensor.is_conj(),
          .is_negated = tensor.is_neg()};
}

at::Tensor tensor_over(const TensorView& view, const c10::Storage& storage) {
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::CPU),
      c10::scalarTypeToTypeMeta(to_torch(view.dtype)));
  c10::TensorImpl* implementation = tensor.unsafeGetTensorImpl();
  implementation->set_sizes_and_strides(view.sizes, view.strides, view.offset);
  if (view.is_wrapped_number) implementation->set_wrapped_number(true);
  if (view.is_conjugated) implementation->_set_conj(true);
  if (view.is_negated) implementation->_set_neg(true);
  return tensor;
}

CallValue to_call_value(const c10::IValue& value, const c10::Type& optional_type,
                        const StorageNumbering& number_of) {
  const c10::Type& type = without_optional(optional_type);
  if (value.isNone()) return {NullValue{}};
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (!tensor.defined()) return {NullValue{}};
    return {view_of(tensor, number_of(tensor))};
  }
  if (value.isBool()) return {value.toBool()};
  if (value.isInt()) return integer_value(value.toInt(), type);
  if (value.isDouble()) return {value.toDouble()};
  if (value.isString()) return {value.toStringRef()};
  if (value.isDevice()) {
    // Whichever GPU is the current one.
    const c10::Device device = value.toDevice();
    return {DeviceValue{device.is_cuda() ? "cuda" : device.str()}};
  }
  if (value.isGenerator()) return generator_value(value.toGenerator());
  if (value.isIntList()) return plain_list_value(value.toIntVector(), type);
  if (value.isDoubleList()) return plain_list_value(value.toDoubleVector(), type);
  if (value.isBoolList()) {
    CallList list{.of = "bool", .items = {}};
    for (const bool item : value.toBoolList()) list.items.push_back({item});
    return {std::move(list)};
  }
  if (value.isList()) return list_value(value, type, number_of);
  throw InputError("a value of type " + value.tagKind() + " cannot be kept in a step trace");
}

c10::IValue to_ivalue(const CallValue& value, const c10::Type& type,
                      const TensorMaker& make_tensor) {
  const c10::Type& wanted = without_optional(type);
  return std::visit(
      Overloaded{
          [&](const NullValue&) -> c10::IValue {
            const bool is_tensor = type.kind() == c10::TypeKind::TensorType;
            return is_tensor ? c10::IValue(at::Tensor()) : c10::IValue();
          },
          [&](const TensorView& view) -> c10::IValue { return make_tensor(view); },
          [&](std::int64_t number) -> c10::IValue {
            const bool is_float = wanted.kind() == c10::TypeKind::FloatType;
            return is_float ? c10::IValue(static_cast<double>(number)) : c10::IValue(number);
          },
          [](double number) -> c10::IValue { return number; },
          [](bool truth) -> c10::IValue { return truth; },
          [](const std::string& text) -> c10::IValue { return text; },
          [](ScalarType dtype) -> c10::IValue {
            return static_cast<std::int64_t>(to_torch(dtype));
          },
          [](const DeviceValue& device) -> c10::IValue { return c10::Device(device.name); },
          [](Layout) -> c10::IValue { return static_cast<std::int64_t>(at::kStrided); },
          [](MemoryFormat format) -> c10::IValue {
            return static_cast<std::int64_t>(to_torch_format(format));
          },
          [](const DefaultGenerator&) -> c10::IValue {
            return at::detail::getDefaultCPUGenerator();
          },
          [&](const CallList& list) -> c10::IValue { return list_to_ivalue(list, make_tensor); }},
      value.value);
}

void for_each_tensor(const c10::IValue& value,
                     const std::function<void(const at::Tensor&)>& visit) {
  if (value.isTensor()) {
    visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorList()) visit(tensor);
  } else if (value.isList() && !value.isIntList() && !value.isDoubleList() && !value.isBoolList()) {
    for (const c10::IValue& item : value.toListRef()) for_each_tensor(item, visit);
  }
}

void for_each_view(const CallValue& value, const std::function<void(const TensorView&)>& visit) {
  visit_views(value, visit);
}

void for_each_view(CallValue& value, const std::function<void(TensorView&)>& visit) {
  visit_views(value, visit);
}

}  // namespace tidemark
