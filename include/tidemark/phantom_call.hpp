// A call that has no exact answer on a phantom GPU.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemark {

// How it was answered.
enum class PhantomAnswer : std::int32_t {
  ignored,   // it succeeded and did nothing
  refused,   // it failed with "not supported"
  modelled,  // by an assumption, which its name states
};
inline constexpr std::size_t phantom_answer_count = 3;
[[nodiscard]] std::string_view name(PhantomAnswer answer);  // "ignored", "refused", "modelled"

struct PhantomCall {
  std::string name;
  PhantomAnswer answer = PhantomAnswer::ignored;
  std::int64_t times = 0;
  bool operator==(const PhantomCall&) const = default;
};

}  // namespace tidemark
