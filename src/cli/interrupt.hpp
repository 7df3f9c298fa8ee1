// Ctrl-C ends a long command early, with what it has.
#pragma once

#include <atomic>

namespace tidemark {

// While it lives, Ctrl-C sets was_interrupted() instead of ending the process. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();

  [[nodiscard]] static const std::atomic<bool>& was_interrupted();

 private:
  void (*previous_)(int);
};

}  // namespace tidemark
