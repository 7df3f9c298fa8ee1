// Element types, layouts and memory formats, named as PyTorch names them, without its headers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/units.hpp"

namespace tidemark {

enum class ScalarType : std::uint8_t {
  uint8,
  int8,
  int16,
  int32,
  int64,
  float16,
  float32,
  float64,
  complex32,
  complex64,
  complex128,
  boolean,
  bfloat16,
  uint16,
  uint32,
  uint64,
  float8_e4m3fn,
  float8_e5m2,
  float8_e4m3fnuz,
  float8_e5m2fnuz,
  float8_e8m0fnu,
};

enum class Layout : std::uint8_t { strided };

enum class MemoryFormat : std::uint8_t { contiguous, preserve, channels_last, channels_last_3d };

// PyTorch's own names: "float32", "bool", "channels_last", ... An unknown name gives nullopt.
[[nodiscard]] std::string_view name(ScalarType type);
[[nodiscard]] std::string_view name(MemoryFormat format);
[[nodiscard]] std::optional<ScalarType> scalar_type_from_name(std::string_view name);
[[nodiscard]] std::optional<MemoryFormat> memory_format_from_name(std::string_view name);

[[nodiscard]] Bytes element_bytes(ScalarType type);
// Floating point as torch.is_floating_point() has it: complex types are not.
[[nodiscard]] bool is_floating_point(ScalarType type);

// A tensor as a window onto a storage; sizes, strides and offset count elements.
struct TensorView {
  StorageId storage = no_storage;
  ScalarType dtype = ScalarType::float32;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  std::int64_t offset = 0;
  // A Python number in a tensor slot; decides type promotion.
  bool is_wrapped_number = false;
  bool is_conjugated = false;
  bool is_negated = false;

  bool operator==(const TensorView&) const = default;
};

}  // namespace tidemark
