// The units and identities that every other header speaks in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace tidemark {

// A count of bytes, or a difference of two. Signed, so that differences need no cast.
using Bytes = std::int64_t;
inline constexpr Bytes kibibyte = 1024;
inline constexpr Bytes mebibyte = 1024 * kibibyte;

// Times inside a trace and a schedule. Files that people read give seconds instead.
using Nanoseconds = std::chrono::duration<std::int64_t, std::nano>;

// Positions in StepTrace::storages, StepTrace::ops, Schedule::instances and Schedule::steps.
// Distinct types: an operator's number where a storage's is wanted does not compile.
enum class StorageId : std::int32_t {};
enum class OpId : std::int32_t {};
enum class InstanceId : std::int32_t {};
enum class StepId : std::int32_t {};

// A storage that belongs to nothing recorded, such as a framework's saved generator state.
inline constexpr StorageId no_storage{-1};
// A created storage that the schedule does not name: it dies at the end of its operator.
inline constexpr InstanceId unnamed_instance{-1};

template <typename Id>
[[nodiscard]] constexpr std::size_t index(Id id) {
  return static_cast<std::size_t>(id);
}

template <typename Id>
[[nodiscard]] constexpr Id make_id(std::size_t position) {
  return static_cast<Id>(static_cast<std::int32_t>(position));
}

[[nodiscard]] constexpr double seconds(Nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace tidemark
