// The allocator model against PyTorch's caching allocator, on the same operations in alternation:
// the sizes of a training step, allocated and freed at random. Prints nanoseconds an operation and
// the ratio.
//
//   allocator_benchmark [OPERATIONS]
#include <c10/cuda/CUDACachingAllocator.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "median.hpp"
#include "tidemark/allocator.hpp"

namespace {

using tidemark::bench::median;

namespace real = c10::cuda::CUDACachingAllocator;

// An allocation of so many bytes, or (0) the release of the live block at a place.
struct Operation {
  tidemark::Bytes bytes = 0;
  std::size_t victim = 0;
};

// `most_alive` blocks at a time, in about as many sizes as a model has.
std::vector<Operation> make_operations(int count, std::size_t most_alive) {
  std::mt19937 random(1);
  std::vector<tidemark::Bytes> sizes;
  for (int i = 0; i < 60; ++i) {
    const std::uint32_t top = 1U << (random() % 26);
    sizes.push_back(1 + static_cast<tidemark::Bytes>(top + random() % top));
  }
  std::vector<Operation> operations;
  std::size_t alive = 0;
  while (operations.size() < static_cast<std::size_t>(count)) {
    if (alive > 0 && (alive == most_alive || random() % 100 < 47)) {
      operations.push_back({.bytes = 0, .victim = random() % alive});
      --alive;
    } else {
      operations.push_back({.bytes = sizes[random() % sizes.size()], .victim = 0});
      ++alive;
    }
  }
  return operations;
}

// Seconds that `operations` take, and everything freed again.
template <typename Block, typename Allocate, typename Free>
double seconds_for(const std::vector<Operation>& operations, Allocate allocate, Free free) {
  std::vector<Block> live;
  live.reserve(operations.size());
  const auto begin = std::chrono::steady_clock::now();
  for (const Operation& operation : operations) {
    if (operation.bytes > 0) {
      live.push_back(allocate(operation.bytes));
      continue;
    }
    free(live[operation.victim]);
    live[operation.victim] = live.back();
    live.pop_back();
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  for (const Block block : live) free(block);
  return spent.count();
}

void compare(const std::string& settings, int count, std::size_t most_alive) {
  const std::vector<Operation> operations = make_operations(count, most_alive);
  const auto parsed = tidemark::parse_allocator_settings(settings);
  c10::CachingAllocator::setAllocatorSettings(tidemark::format_allocator_settings(parsed));
  std::vector<double> real_seconds;
  std::vector<double> model_seconds;
  for (int round = 0; round < 9; ++round) {
    real::emptyCache();
    real_seconds.push_back(seconds_for<void*>(
        operations,
        [](tidemark::Bytes bytes) {
          return real::raw_alloc_with_stream(static_cast<std::size_t>(bytes), nullptr);
        },
        [](void* pointer) { real::raw_delete(pointer); }));
    tidemark::CachingAllocator model(parsed, {});
    model_seconds.push_back(seconds_for<tidemark::BlockId>(
        operations, [&](tidemark::Bytes bytes) { return *model.allocate(bytes); },
        [&](tidemark::BlockId block) { model.free(block); }));
  }
  const double real_median = median(real_seconds);
  const double model_median = median(model_seconds);
  std::printf("%-26s %6zu alive: real %7.1f ns, model %7.1f ns an operation, ratio %5.2f\n",
              settings.empty() ? "default" : settings.c_str(), most_alive,
              1e9 * real_median / count, 1e9 * model_median / count, real_median / model_median);
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::stoi(argv[1]) : 100000;
  real::init(/*device_count=*/1);
  for (const char* settings : {"", "expandable_segments:True"}) {
    for (const std::size_t most_alive : {100, 1000, 5000}) compare(settings, count, most_alive);
  }
}
