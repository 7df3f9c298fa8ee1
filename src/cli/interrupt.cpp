#include "interrupt.hpp"

#include <csignal>

namespace tidemark {

namespace {

// A signal handler can reach nothing else.
std::atomic<bool> has_interrupt{false};

void note_interrupt(int) { has_interrupt = true; }

}  // namespace

InterruptGuard::InterruptGuard() : previous_(std::signal(SIGINT, note_interrupt)) {
  has_interrupt = false;
}

InterruptGuard::~InterruptGuard() { std::signal(SIGINT, previous_); }

const std::atomic<bool>& InterruptGuard::was_interrupted() { return has_interrupt; }

}  // namespace tidemark
