// Addresses for pictures of memory: first fit, in blocks of 512 bytes. No allocator's own choice,
// only a layout without holes that nobody needs.
#pragma once

#include <iterator>
#include <map>

#include "tidemark/units.hpp"

namespace tidemark {

class AddressSpace {
 public:
  static constexpr Bytes block_bytes = 512;
  [[nodiscard]] static Bytes rounded(Bytes bytes) {
    const Bytes blocks = (bytes + block_bytes - 1) / block_bytes;
    return (blocks > 0 ? blocks : 1) * block_bytes;
  }

  // The lowest address at which so many bytes are free.
  [[nodiscard]] Bytes take(Bytes bytes) {
    const Bytes size = rounded(bytes);
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      if (hole->second < size) continue;
      const Bytes address = hole->first;
      const Bytes rest = hole->second - size;
      holes_.erase(hole);
      if (rest > 0) holes_.emplace(address + size, rest);
      return address;
    }
    end_ += size;
    return end_ - size;
  }

  void give_back(Bytes address, Bytes bytes) {
    auto hole = holes_.emplace(address, rounded(bytes)).first;
    const auto next = std::next(hole);
    if (next != holes_.end() && hole->first + hole->second == next->first) {
      hole->second += next->second;
      holes_.erase(next);
    }
    if (hole == holes_.begin()) return;
    const auto previous = std::prev(hole);
    if (previous->first + previous->second != hole->first) return;
    previous->second += hole->second;
    holes_.erase(hole);
  }

  [[nodiscard]] Bytes end() const { return end_; }  // the highest address ever taken
  [[nodiscard]] const std::map<Bytes, Bytes>& holes() const { return holes_; }

 private:
  std::map<Bytes, Bytes> holes_;  // bytes by address; never two that touch
  Bytes end_ = 0;
};

}  // namespace tidemark
