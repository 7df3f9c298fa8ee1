#include "copy_queue.hpp"

#include <utility>

namespace tidemark {

CopyQueue::CopyQueue() : thread_([this] { serve(); }) {}

CopyQueue::~CopyQueue() {
  {
    const std::scoped_lock lock(mutex_);
    is_closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::uint64_t CopyQueue::submit(std::function<void()> work) {
  std::uint64_t number = 0;
  {
    const std::scoped_lock lock(mutex_);
    waiting_.push_back(std::move(work));
    number = ++submitted_;
  }
  changed_.notify_all();
  return number;
}

void CopyQueue::wait_until_done(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_ >= number; });
}

void CopyQueue::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_ == submitted_; });
}

void CopyQueue::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_closing_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    work();
    lock.lock();
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace tidemark
