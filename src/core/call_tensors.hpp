// The tensors of a recorded call, for counting its work.
#pragma once

#include <cstddef>
#include <string>

#include "tidemark/trace.hpp"

namespace tidemark {

[[nodiscard]] inline double elements(const TensorView& view) {
  double count = 1;
  for (const std::int64_t size : view.sizes) count *= static_cast<double>(size);
  return count;
}

[[nodiscard]] inline const TensorView* tensor_argument(const Call& call, std::size_t argument) {
  if (argument >= call.arguments.size()) return nullptr;
  return std::get_if<TensorView>(&call.arguments[argument].value);
}

[[nodiscard]] inline const TensorView* first_result(const Call& call) {
  for (const CallValue& result : call.results) {
    if (const auto* view = std::get_if<TensorView>(&result.value)) return view;
  }
  return nullptr;
}

[[nodiscard]] inline const TensorView* first_tensor_argument(const Call& call) {
  for (const CallValue& argument : call.arguments) {
    if (const auto* view = std::get_if<TensorView>(&argument.value)) return view;
  }
  return nullptr;
}

}  // namespace tidemark
