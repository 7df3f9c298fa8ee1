// The allocator model against the real one of the installed torch, on a CUDA runtime that only
// hands out addresses: equal figures and placements after every one of many random operations.
//
//   allocator_oracle SETTINGS SEED OPERATIONS [STREAMS [DEVICE_MIB]]
//
// SETTINGS as PYTORCH_ALLOC_CONF has them.
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "address_only_runtime.hpp"
#include "tidemark/allocator.hpp"

namespace {

namespace real = c10::cuda::CUDACachingAllocator;
using tidemark::AllocatorFigures;
using tidemark::Bytes;
using tidemark::CachingAllocator;

tidemark::Level level_of(const c10::CachingAllocator::StatArray& stats) {
  const auto& sum = stats[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  return {.current = sum.current, .peak = sum.peak};
}

AllocatorFigures real_figures() {
  const auto stats = real::getDeviceStats(0);
  return {.allocations = level_of(stats.allocation),
          .segments = level_of(stats.segment),
          .active_blocks = level_of(stats.active),
          .inactive_splits = level_of(stats.inactive_split),
          .allocated_bytes = level_of(stats.allocated_bytes),
          .reserved_bytes = level_of(stats.reserved_bytes),
          .active_bytes = level_of(stats.active_bytes),
          .inactive_split_bytes = level_of(stats.inactive_split_bytes),
          .requested_bytes = level_of(stats.requested_bytes),
          .retries = stats.num_alloc_retries,
          .out_of_memory = stats.num_ooms};
}

std::ostream& operator<<(std::ostream& out, const tidemark::Level& level) {
  return out << level.current << " (peak " << level.peak << ")";
}

void print(const char* whose, const AllocatorFigures& figures) {
  std::cerr << whose << ": allocations " << figures.allocations << ", segments " << figures.segments
            << ", active " << figures.active_blocks << ", inactive splits "
            << figures.inactive_splits << "\n  allocated " << figures.allocated_bytes
            << ", reserved " << figures.reserved_bytes << ", active " << figures.active_bytes
            << ", inactive split " << figures.inactive_split_bytes << ", requested "
            << figures.requested_bytes << ", retries " << figures.retries << ", out of memory "
            << figures.out_of_memory << '\n';
}

struct Live {
  void* pointer = nullptr;
  tidemark::BlockId block{};
};

class Oracle {
 public:
  Oracle(const std::string& settings, std::uint32_t seed, std::uint32_t streams)
      : random_(seed),
        streams_(streams),
        model_(tidemark::parse_allocator_settings(settings), device_memory()) {}

  // One random operation on both. False: they differ now.
  [[nodiscard]] bool step() {
    if (random_() % 20000 == 0) {
      real::emptyCache();
      model_.empty_cache();
    } else if (random_() % 3000 == 0) {
      real::resetPeakStats(0);
      model_.reset_peaks();
    } else if (!live_.empty() && random_() % 100 < free_percent()) {
      free(random_() % live_.size());
    } else if (!allocate(random_size(), static_cast<std::uint32_t>(random_() % streams_))) {
      return false;
    }
    return model_.figures() == real_figures();
  }

  void explain() const {
    print("real ", real_figures());
    print("model", model_.figures());
  }
  [[nodiscard]] const AllocatorFigures& figures() const { return model_.figures(); }

 private:
  static tidemark::DeviceMemory device_memory() {
    std::size_t free_bytes = 0;
    std::size_t total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) return {};
    return {.total_bytes = static_cast<Bytes>(total),
            .taken_bytes = static_cast<Bytes>(total - free_bytes)};
  }

  // Swings between growing and shrinking, so that both reuse and release are met.
  [[nodiscard]] std::uint32_t free_percent() {
    if (random_() % 2000 == 0) is_shrinking_ = !is_shrinking_;
    return is_shrinking_ || live_.size() > 4000 ? 60 : 45;
  }

  // Any order of magnitude up to 64 MiB, rarely more; often a size that was there before.
  [[nodiscard]] std::size_t random_size() {
    if (!sizes_.empty() && random_() % 2 == 0) return sizes_[random_() % sizes_.size()];
    const std::uint32_t exponent = random_() % 200 == 0 ? 26 + random_() % 4 : random_() % 26;
    std::size_t size = std::size_t{1} << exponent;
    if (random_() % 8 != 0) size += random_() % size;
    if (sizes_.size() < 200) {
      sizes_.push_back(size);
    } else {
      sizes_[random_() % sizes_.size()] = size;
    }
    return size;
  }

  void free(std::size_t victim) {
    real::raw_delete(live_[victim].pointer);
    model_.free(live_[victim].block);
    live_[victim] = live_.back();
    live_.pop_back();
  }

  [[nodiscard]] bool allocate(std::size_t size, std::uint32_t stream) {
    void* pointer = nullptr;
    try {
      // Streams are names here: nothing runs on them.
      pointer = real::raw_alloc_with_stream(
          size, reinterpret_cast<cudaStream_t>(static_cast<std::uintptr_t>(stream) * 64));
    } catch (const c10::OutOfMemoryError&) {
    }
    const auto block = model_.allocate(static_cast<Bytes>(size), static_cast<std::int32_t>(stream));
    if (block.has_value() != (pointer != nullptr)) return false;
    if (!block) return true;
    live_.push_back({.pointer = pointer, .block = *block});
    const auto offset = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(pointer)) -
                        model_.address(*block);
    if (!first_offset_) first_offset_ = offset;
    return offset == *first_offset_;
  }

  std::mt19937 random_;
  std::uint32_t streams_;
  CachingAllocator model_;
  std::vector<Live> live_;
  std::vector<std::size_t> sizes_;
  std::optional<std::int64_t> first_offset_;  // between the two's addresses
  bool is_shrinking_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: allocator_oracle SETTINGS SEED OPERATIONS [STREAMS [DEVICE_MIB]]\n";
    return 2;
  }
  const std::string settings = argv[1];
  const int operations = std::stoi(argv[3]);
  if (argc > 5) tidemark::test::set_device_bytes(std::stoull(argv[5]) << 20);
  if (!settings.empty()) c10::CachingAllocator::setAllocatorSettings(settings);
  real::init(/*device_count=*/1);
  Oracle oracle(settings, static_cast<std::uint32_t>(std::stoul(argv[2])),
                argc > 4 ? static_cast<std::uint32_t>(std::stoul(argv[4])) : 1);
  for (int i = 0; i < operations; ++i) {
    if (oracle.step()) continue;
    std::cerr << "they differ after operation " << i << " with '" << settings << "'\n";
    oracle.explain();
    return 1;
  }
  const AllocatorFigures& figures = oracle.figures();
  std::cout << operations << " operations agree: peak reserved " << figures.reserved_bytes.peak
            << ", retries " << figures.retries << ", out of memory " << figures.out_of_memory
            << '\n';
}
