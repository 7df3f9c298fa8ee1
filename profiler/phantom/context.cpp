#include "context.hpp"

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "last_error.hpp"
#include "machine.hpp"
#include "machine_interface.hpp"

namespace tidemark::phantom {

namespace {

std::atomic<cudaError_t> lasting_error = cudaSuccess;
std::atomic<std::int64_t> kernels = 0;

void begin_forked_process() {
  ProcessRecord& record = Machine::get().record();
  const bool had_context = record.used_device != 0;
  renew_process_record(record);
  if (had_context) lasting_error = cudaErrorInitializationError;
}

// 0: the card never fails.
std::int64_t last_kernel() {
  const char* text = std::getenv(lost_variable);
  return text == nullptr ? 0 : std::atoll(text);
}

void lose_card() {
  Machine::get().record().is_lost = 1;
  lasting_error = cudaErrorECCUncorrectable;
}

}  // namespace

cudaError_t context_error() {
  const cudaError_t error = lasting_error.load(std::memory_order_relaxed);
  if (error == cudaSuccess) return error;
  if (error == cudaErrorInitializationError) ++Machine::get().record().refused_after_fork;
  return failed(error);
}

cudaError_t launch_kernel() {
  static const std::int64_t last = last_kernel();
  if (last > 0 && kernels.fetch_add(1, std::memory_order_relaxed) == last) lose_card();
  return context_error();
}

void watch_forks() { pthread_atfork(nullptr, nullptr, begin_forked_process); }

}  // namespace tidemark::phantom

extern "C" int tidemark_phantom_launch() { return tidemark::phantom::launch_kernel(); }
