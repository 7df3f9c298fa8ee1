// A queue of memory copies with a thread of its own: what a copy stream is on a GPU.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace tidemark {

class CopyQueue {
 public:
  CopyQueue();
  CopyQueue(const CopyQueue&) = delete;
  CopyQueue& operator=(const CopyQueue&) = delete;
  // Finishes what was submitted.
  ~CopyQueue();

  // Runs after everything submitted before. The number names this piece of work.
  std::uint64_t submit(std::function<void()> work);
  void wait_until_done(std::uint64_t number);
  void wait_until_idle();

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  std::uint64_t submitted_ = 0;
  std::uint64_t done_ = 0;
  bool is_closing_ = false;
  std::thread thread_;  // the last member: it starts when the others exist
};

}  // namespace tidemark
