#include "counting_allocator.hpp"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <set>
#include <thread>
#include <vector>

#include "live_count.hpp"

namespace tidemark {
namespace {

class EventList final : public AllocationObserver {
 public:
  struct Event {
    bool is_free;
    const void* data;
    Bytes bytes;
    bool operator==(const Event&) const = default;
  };
  void on_allocate(const void* data, Bytes bytes, WorkerId) override {
    events.push_back({false, data, bytes});
  }
  void on_free(const void* data, Bytes bytes) override { events.push_back({true, data, bytes}); }
  std::vector<Event> events;
};

TEST_CASE("a tensor counts with the bytes it asked for, and no longer once it is gone") {
  CountingAllocator& allocator = CountingAllocator::install();
  const Bytes before = allocator.current_bytes();
  {
    const at::Tensor tensor = torch::empty({3, 5});
    REQUIRE(allocator.current_bytes() == before + 60);
    const at::Tensor view = tensor.view({15});
    REQUIRE(allocator.current_bytes() == before + 60);
  }
  REQUIRE(allocator.current_bytes() == before);
}

TEST_CASE("the peak is the highest level since the last reset") {
  CountingAllocator& allocator = CountingAllocator::install();
  const Bytes before = allocator.current_bytes();
  const at::Tensor held = torch::empty({100}, torch::kByte);
  allocator.reset_peak();
  { const at::Tensor passing = torch::empty({1000}, torch::kByte); }
  REQUIRE(allocator.peak_bytes() == before + 1100);
  REQUIRE(allocator.current_bytes() == before + 100);
  allocator.reset_peak();
  REQUIRE(allocator.peak_bytes() == before + 100);
}

TEST_CASE("an observer sees each block come and go, and none without bytes") {
  CountingAllocator::install();
  EventList list;
  const void* data = nullptr;
  {
    const ObserverGuard guard(CountingAllocator::install(), list);
    const at::Tensor tensor = torch::empty({7}, torch::kByte);
    const at::Tensor nothing = torch::empty({0});
    data = tensor.data_ptr();
  }
  const std::vector<EventList::Event> expected{{false, data, 7}, {true, data, 7}};
  REQUIRE((list.events == expected));
}

TEST_CASE("blocks are aligned to 64 bytes and released by their address alone") {
  CountingAllocator& allocator = CountingAllocator::install();
  const Bytes before = allocator.current_bytes();
  void* block = allocator.raw_allocate(33);
  REQUIRE(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  REQUIRE(allocator.current_bytes() == before + 33);
  allocator.raw_deallocate(block);
  REQUIRE(allocator.current_bytes() == before);
}

TEST_CASE("blocks that other threads allocate and free count the same") {
  CountingAllocator& allocator = CountingAllocator::install();
  const Bytes before = allocator.current_bytes();
  at::Tensor made;
  std::thread([&] { made = torch::empty({64}, torch::kByte); }).join();
  REQUIRE(allocator.current_bytes() == before + 64);
  std::thread([&] { made.reset(); }).join();
  REQUIRE(allocator.current_bytes() == before);
}

TEST_CASE("workers count as if each held its most while all others did") {
  LiveCount count;
  const WorkerId first{0};
  const WorkerId second{1};
  count.allocate(1000, no_worker);
  // The second begins when the first has ended: together they never held more than 128.
  for (const WorkerId worker : {first, second}) {
    for (const Bytes bytes : {64, 128}) {
      count.allocate(bytes, worker);
      count.free(bytes, worker);
    }
  }
  CHECK(count.peak() == 1256);
  CHECK(count.current() == 1000);
  count.allocate(200, no_worker);
  CHECK(count.peak() == 1256);
  count.allocate(100, no_worker);
  CHECK(count.peak() == 1300);
  // What a worker leaves behind stays its own, whoever frees it.
  count.allocate(32, first);
  count.reset_peak();
  CHECK(count.peak() == 1332);
  count.allocate(16, second);
  CHECK(count.peak() == 1348);
  count.free(32, first);
  count.free(16, second);
  count.reset_peak();
  CHECK(count.peak() == 1300);
}

// Its backward allocates in each thread while that thread works.
TEST_CASE("an operator whose threads allocate has one peak, however they overlap") {
  CountingAllocator& allocator = CountingAllocator::install();
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  const auto input = [] { return torch::randn({2, 4, 48, 16}, torch::requires_grad()); };
  const at::Tensor query = input();
  const at::Tensor key = input();
  const at::Tensor value = input();
  std::set<Bytes> peaks;
  for (int repeat = 0; repeat < 50; ++repeat) {
    const auto [output, logsumexp] =
        at::_scaled_dot_product_flash_attention_for_cpu(query, key, value);
    const Bytes before = allocator.current_bytes();
    allocator.reset_peak();
    (void)at::_scaled_dot_product_flash_attention_for_cpu_backward(output, query, key, value,
                                                                   output, logsumexp, 0, false);
    peaks.insert(allocator.peak_bytes() - before);
  }
  CHECK(peaks.size() == 1);
  at::set_num_threads(threads);
}

TEST_CASE("memory that the machine does not have is refused with what was asked for") {
  CountingAllocator& allocator = CountingAllocator::install();
  const Bytes before = allocator.current_bytes();
  constexpr std::size_t exbibyte = std::size_t{1} << 60;
  try {
    static_cast<void>(allocator.allocate(exbibyte));
    FAIL("an exbibyte was handed out");
  } catch (const OutOfMemory& error) {
    REQUIRE(error.asked_bytes() == static_cast<Bytes>(exbibyte));
  }
  REQUIRE(allocator.current_bytes() == before);
}

}  // namespace
}  // namespace tidemark
