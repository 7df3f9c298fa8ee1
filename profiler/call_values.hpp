// What a boxed operator call takes and gives (c10::IValue) as data (CallValue), and back.
//
// The schema's type decides, not the value's own: an element type travels as a plain integer in a
// boxed call, an empty list does not know what it holds, and lists are not covariant.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <functional>

#include "tidemark/trace.hpp"

namespace tidemark {

[[nodiscard]] at::ScalarType to_torch(ScalarType type);
// Throws InputError for quantized and sub-byte types, which a step cannot hold.
[[nodiscard]] ScalarType from_torch(at::ScalarType type);

// Throws InputError for tensors that are no windows onto a storage (sparse, nested).
[[nodiscard]] TensorView view_of(const at::Tensor& tensor, StorageId storage);
[[nodiscard]] at::Tensor tensor_over(const TensorView& view, const c10::Storage& storage);

using StorageNumbering = std::function<StorageId(const at::Tensor&)>;
using TensorMaker = std::function<at::Tensor(const TensorView&)>;

// `type` is c10::Argument::real_type() of the argument or result. Throws InputError for what a
// trace cannot hold: complex numbers, generators other than the default one, and the like.
[[nodiscard]] CallValue to_call_value(const c10::IValue& value, const c10::Type& type,
                                      const StorageNumbering& number_of);
[[nodiscard]] c10::IValue to_ivalue(const CallValue& value, const c10::Type& type,
                                    const TensorMaker& make_tensor);

// The tensors of a boxed value, in order; undefined ones included.
void for_each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& visit);
// The views of a call's value, in order.
void for_each_view(const CallValue& value, const std::function<void(const TensorView&)>& visit);
void for_each_view(CallValue& value, const std::function<void(TensorView&)>& visit);

}  // namespace tidemark
