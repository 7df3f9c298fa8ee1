// A 128-bit hash of what decides bytes: two FNV-1a streams (Fowler, Noll, Vo; 64-bit parameters)
// with different offsets, the second over the bytes of each value in reverse order.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/trace.hpp"

namespace tidemark {

namespace {

constexpr std::uint64_t prime = 0x100000001b3;
constexpr std::uint64_t offset_basis = 0xcbf29ce484222325;

class Hash {
 public:
  void add(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      first_ = (first_ ^ (value >> shift & 255)) * prime;
      second_ = (second_ ^ (value >> (56 - shift) & 255)) * prime;
    }
  }
  // The length goes first, so that "ab" and "c" differ from "a" and "bc".
  void add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    for (const char c : text) add(static_cast<std::uint64_t>(static_cast<unsigned char>(c)));
  }
  template <typename Id>
  void add_ids(const std::vector<Id>& ids) {
    add(static_cast<std::uint64_t>(ids.size()));
    for (const Id id : ids) add(static_cast<std::uint64_t>(static_cast<std::int32_t>(id)));
  }
  [[nodiscard]] std::string hexadecimal() const {
    static constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const std::uint64_t half : {first_, second_}) {
      for (int shift = 60; shift >= 0; shift -= 4) text += digits[half >> shift & 15];
    }
    return text;
  }

 private:
  std::uint64_t first_ = offset_basis;
  std::uint64_t second_ = ~offset_basis;
};

}  // namespace

std::string fingerprint(const StepTrace& trace) {
  Hash hash;
  hash.add(static_cast<std::uint64_t>(trace.device.kind));
  // A phantom's name is its profile; a processor's name decides no bytes.
  if (trace.device.kind == DeviceKind::phantom) hash.add(trace.device.name);
  hash.add(static_cast<std::uint64_t>(trace.device.threads));
  hash.add(static_cast<std::uint64_t>(trace.storages.size()));
  for (const Storage& storage : trace.storages) {
    hash.add(static_cast<std::uint64_t>(storage.bytes));
    hash.add(static_cast<std::uint64_t>(storage.role));
  }
  hash.add(static_cast<std::uint64_t>(trace.ops.size()));
  for (const Op& op : trace.ops) {
    hash.add(op.name);
    hash.add(op.call ? op.call->overload : std::string());
    hash.add(static_cast<std::uint64_t>(op.phase));
    hash.add_ids(op.reads);
    hash.add_ids(op.writes);
    hash.add_ids(op.creates);
    if (op.no_grad) hash.add_ids(op.no_grad->omits);
  }
  hash.add_ids(trace.keep);
  return hash.hexadecimal();
}

}  // namespace tidemark
