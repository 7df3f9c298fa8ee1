#include "backend_cpu.hpp"

#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "copy_queue.hpp"
#include "counting_allocator.hpp"

namespace tidemark {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

class ThreadedQueues final : public CopyQueues {
 public:
  explicit ThreadedQueues(std::atomic<std::int64_t>& side_copy_ns) : side_copy_ns_(side_copy_ns) {
    side_copy_ns_ = 0;
  }

  void copy(StepId step, const MemoryCopy& copy) override {
    if (copy.queue == Queue::compute) return perform(copy);
    const std::uint64_t number = queue(copy.queue).submit([this, copy] {
      const Clock::time_point begin = Clock::now();
      perform(copy);
      side_copy_ns_ += Nanoseconds(Clock::now() - begin).count();
    });
    numbers_[step] = {copy.queue, number};
  }

  void wait(Queue waiting, StepId event) override {
    const auto& [source, number] = numbers_.at(event);
    CopyQueue& from = queue(source);
    if (waiting == Queue::compute) return from.wait_until_done(number);
    if (waiting == source) return;
    queue(waiting).submit([&from, number = number] { from.wait_until_done(number); });
  }

  // Everything on the compute queue is done when its step is.
  void wait_for_compute(Queue) override {}

  void finish() override {
    for (auto& queue : queues_) {
      if (queue) queue->wait_until_idle();
    }
  }

 private:
  static void perform(const MemoryCopy& copy) {
    if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
  }

  CopyQueue& queue(Queue which) {
    std::unique_ptr<CopyQueue>& queue = queues_[static_cast<std::size_t>(which)];
    if (!queue) queue = std::make_unique<CopyQueue>();
    return *queue;
  }

  std::atomic<std::int64_t>& side_copy_ns_;
  std::map<StepId, std::pair<Queue, std::uint64_t>> numbers_;  // each copy's number on its queue
  // The last member: the threads end before the others go.
  std::array<std::unique_ptr<CopyQueue>, queue_count> queues_;
};

class WallClockTimer final : public StepTimer {
 public:
  WallClockTimer(std::size_t steps, const std::atomic<std::int64_t>& side_copy_ns)
      : side_copy_ns_(side_copy_ns) {
    begins_.reserve(steps + 1);
  }

  void begin(StepWork) override { begins_.push_back(Clock::now()); }

  void end(StepWork work) override {
    if (work == StepWork::recompute) recompute_ += Clock::now() - begins_.back();
    if (work == StepWork::transfer) transfer_ += Clock::now() - begins_.back();
  }

  [[nodiscard]] StepTimes finish() override {
    begins_.push_back(Clock::now());
    StepTimes times;
    times.step_seconds = seconds_of(begins_.back() - begins_.front());
    times.recompute_seconds = seconds_of(recompute_);
    times.transfer_seconds =
        seconds_of(transfer_) + static_cast<double>(side_copy_ns_.load()) * 1e-9;
    for (const Clock::time_point begin : begins_) times.begins.push_back(begin - begins_.front());
    return times;
  }

 private:
  const std::atomic<std::int64_t>& side_copy_ns_;
  std::vector<Clock::time_point> begins_;
  Clock::duration recompute_{};
  Clock::duration transfer_{};
};

}  // namespace

c10::DataPtr allocate_pageable(Bytes bytes) {
  auto* data = new std::uint8_t[static_cast<std::size_t>(bytes)];
  return {data, data, [](void* block) { delete[] static_cast<std::uint8_t*>(block); },
          c10::Device(c10::kCPU)};
}

CpuBackend::CpuBackend() { CountingAllocator::install(); }

MemoryMeter& CpuBackend::meter() { return CountingAllocator::install(); }

c10::Storage CpuBackend::allocate_static(const std::string&, Bytes bytes) {
  return allocate_storage(device(), bytes);
}

c10::DataPtr CpuBackend::allocate_host(Bytes bytes, Place) { return allocate_pageable(bytes); }

std::string CpuBackend::describe_out_of_memory() const {
  return "this machine has no memory left for the step";
}

void CpuBackend::upload(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

void CpuBackend::download(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

std::unique_ptr<CopyQueues> CpuBackend::make_queues() {
  return std::make_unique<ThreadedQueues>(side_copy_ns_);
}

std::unique_ptr<StepTimer> CpuBackend::make_timer(std::size_t steps) {
  return std::make_unique<WallClockTimer>(steps, side_copy_ns_);
}

}  // namespace tidemark
