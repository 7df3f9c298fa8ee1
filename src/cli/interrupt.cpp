#include "interrupt.hpp"

#include <csignal>

namespace tidemark {

namespace {

// A signal handler can reach nothing else.
std::atomic<bool> interrupted{false};

void note_interrupt(int) { interrupted = true; }

}  // namespace

InterruptGuard::InterruptGuard() : previous_(std::signal(SIGINT, note_interrupt)) {
  interrupted = false;
}

InterruptGuard::~InterruptGuard() { std::signal(SIGINT, previous_); }

const std::atomic<bool>& InterruptGuard::was_interrupted() { return interrupted; }

}  // namespace tidemark
