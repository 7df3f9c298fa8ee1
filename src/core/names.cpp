// The names of every enumeration, in one place, so that files, tables and messages agree.
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tidemark/phantom_call.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/report.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/tensor.hpp"

namespace tidemark {

namespace {

struct ScalarTypeRow {
  std::string_view name;
  Bytes bytes;
  bool is_floating_point;
};

// In the order of ScalarType.
constexpr std::array<ScalarTypeRow, 21> scalar_types{{
    {"uint8", 1, false},          {"int8", 1, false},           {"int16", 2, false},
    {"int32", 4, false},          {"int64", 8, false},          {"float16", 2, true},
    {"float32", 4, true},         {"float64", 8, true},         {"complex32", 4, false},
    {"complex64", 8, false},      {"complex128", 16, false},    {"bool", 1, false},
    {"bfloat16", 2, true},        {"uint16", 2, false},         {"uint32", 4, false},
    {"uint64", 8, false},         {"float8_e4m3fn", 1, true},   {"float8_e5m2", 1, true},
    {"float8_e4m3fnuz", 1, true}, {"float8_e5m2fnuz", 1, true}, {"float8_e8m0fnu", 1, true},
}};

constexpr std::array<std::string_view, 4> memory_formats{"contiguous", "preserve", "channels_last",
                                                         "channels_last_3d"};

struct TermRow {
  std::string_view key;
  std::string_view title;
};

// In the order of Term.
constexpr std::array<TermRow, term_count> terms{{
    {"static", "static"},
    {"held_checkpoints", "held checkpoints"},
    {"checkpoint_pools", "contiguous pools"},
    {"generator_states", "generator states"},
    {"activations", "activations"},
    {"recomputed_segment", "recomputed segment"},
    {"outside_blocks", "embedding, head, loss"},
    {"activation_gradients", "activation gradients"},
    {"gradients", "gradients of this step"},
    {"optimizer_step", "optimizer step"},
    {"restored_state", "restored state"},
    {"workspace", "workspace"},
}};

template <typename Enum, std::size_t size>
std::string_view at(const std::array<std::string_view, size>& names, Enum value) {
  return names.at(static_cast<std::size_t>(value));
}

}  // namespace

std::string_view name(ScalarType type) {
  return scalar_types.at(static_cast<std::size_t>(type)).name;
}

Bytes element_bytes(ScalarType type) {
  return scalar_types.at(static_cast<std::size_t>(type)).bytes;
}

bool is_floating_point(ScalarType type) {
  return scalar_types.at(static_cast<std::size_t>(type)).is_floating_point;
}

std::optional<ScalarType> scalar_type_from_name(std::string_view name) {
  const auto found = std::find_if(scalar_types.begin(), scalar_types.end(),
                                  [&](const ScalarTypeRow& row) { return row.name == name; });
  if (found == scalar_types.end()) return std::nullopt;
  return static_cast<ScalarType>(found - scalar_types.begin());
}

std::string_view name(MemoryFormat format) { return at(memory_formats, format); }

std::optional<MemoryFormat> memory_format_from_name(std::string_view name) {
  const auto found = std::find(memory_formats.begin(), memory_formats.end(), name);
  if (found == memory_formats.end()) return std::nullopt;
  return static_cast<MemoryFormat>(found - memory_formats.begin());
}

std::string_view key(Term term) { return terms.at(static_cast<std::size_t>(term)).key; }
std::string_view title(Term term) { return terms.at(static_cast<std::size_t>(term)).title; }

std::string_view key(Cause cause) {
  static constexpr std::array<std::string_view, 9> names{
      "recorded", "recompute",       "offload",         "fetch",        "partition",
      "gather",   "contiguous_pool", "generator_state", "restore_state"};
  return at(names, cause);
}

std::string_view key(Place place) {
  static constexpr std::array<std::string_view, 4> names{"device", "host_pinned", "host_pageable",
                                                         "peer"};
  return at(names, place);
}

std::string_view key(Queue queue) {
  static constexpr std::array<std::string_view, queue_count> names{"compute", "offload", "fetch"};
  return at(names, queue);
}

std::string_view name(CpuCheckpointing value) {
  static constexpr std::array<std::string_view, 3> names{"off", "blocking", "async"};
  return at(names, value);
}

std::string_view name(Method value) {
  static constexpr std::array<std::string_view, 2> names{"reentrant", "non_reentrant"};
  return at(names, value);
}

std::string to_string(const DeepSpeedVersion& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.patch);
}

std::optional<DeepSpeedVersion> deepspeed_version_from_text(std::string_view text) {
  std::array<std::int32_t, 3> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), numbers[i]);
    if (error != std::errc() || numbers[i] < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (i == 2) break;
    if (!text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
  }
  return DeepSpeedVersion{.major = numbers[0], .minor = numbers[1], .patch = numbers[2]};
}

std::string_view name(Status status) {
  static constexpr std::array<std::string_view, 4> names{"ok", "out_of_memory", "invalid",
                                                         "failed"};
  return at(names, status);
}

std::string_view name(GradientVerdict verdict) {
  static constexpr std::array<std::string_view, 4> names{"equal", "differ", "not_comparable",
                                                         "not_run"};
  return at(names, verdict);
}

std::string_view name(DeviceKind kind) {
  static constexpr std::array<std::string_view, 4> names{"unknown", "cpu", "cuda", "phantom"};
  return at(names, kind);
}

std::string_view name(PhantomAnswer answer) {
  static constexpr std::array<std::string_view, phantom_answer_count> names{"ignored", "refused",
                                                                            "modelled"};
  return at(names, answer);
}

}  // namespace tidemark
