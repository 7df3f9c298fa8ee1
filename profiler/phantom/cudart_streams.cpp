// Streams, events, captures.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "context.hpp"
#include "last_error.hpp"
#include "machine.hpp"
#include "streams.hpp"
#include "unanswered.hpp"

// Headers rename this one; what PyTorch imports has the plain name.
#undef cudaStreamGetCaptureInfo

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

struct CUstream_st {
  int priority;
};

struct CUevent_st {
  std::atomic<std::int64_t> recorded_at;  // 0: never
  std::atomic<cudaStream_t> stream;
};

namespace tidemark::phantom {

namespace {

// Counts what was recorded: time, as far as there is any.
std::atomic<std::int64_t> ticks = 1;

// Up to which tick a program knows work to be done, by synchronising. Only asked with a backlog:
// then an event that was recorded later is not ready, as if the device were far behind.
class KnownDone {
 public:
  void synchronize_all() { all_ = ticks.load(); }
  void synchronize(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    streams_[stream] = ticks.load();
  }
  [[nodiscard]] bool is_ready(const CUevent_st& event) {
    const std::int64_t recorded_at = event.recorded_at.load();
    if (recorded_at <= all_.load()) return true;
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(event.stream.load());
    return found != streams_.end() && recorded_at <= found->second;
  }

 private:
  std::mutex mutex_;
  std::atomic<std::int64_t> all_ = 0;
  std::unordered_map<cudaStream_t, std::int64_t> streams_;
};

KnownDone& known_done() {
  static KnownDone& known = *new KnownDone;
  return known;
}

}  // namespace

void synchronize_device() { known_done().synchronize_all(); }

}  // namespace tidemark::phantom

using tidemark::phantom::context_error;
using tidemark::phantom::failed;
using tidemark::phantom::known_done;
using tidemark::phantom::Machine;

extern "C" {

// Distinct handles, because the allocator pools by stream.
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (const cudaError_t error = context_error()) return error;
  *stream = new CUstream_st{priority};
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

// Not deleted: a handle must not come back as another stream while something still knows it.
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaSuccess; }

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  // The default streams are small numbers, not objects.
  *priority = reinterpret_cast<std::uintptr_t>(stream) <= 2 ? 0 : stream->priority;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  known_done().synchronize(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  function(data);
  return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data,
                                  unsigned flags) {
  callback(stream, cudaSuccess, data);
  return cudaSuccess;
}

// What is captured is launched later, and nothing is kept here that could be.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  static tidemark::phantom::Unanswered call("cudaStreamBeginCapture");
  return failed(static_cast<cudaError_t>(call.reached(cudaErrorNotSupported)));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode* mode) {
  *mode = cudaStreamCaptureModeGlobal;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t error = context_error()) return error;
  *event = new CUevent_st{};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = context_error()) return error;
  event->stream = stream;
  event->recorded_at = tidemark::phantom::ticks.fetch_add(1) + 1;
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return cudaEventRecord(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = context_error()) return error;
  const bool is_ready = !Machine::get().has_backlog() || known_done().is_ready(*event);
  return is_ready ? cudaSuccess : failed(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = context_error()) return error;
  known_done().synchronize(event->stream);
  return cudaSuccess;
}

// A microsecond for each record in between: never zero, and the same in every run, so that a choice
// by time (cudnn.benchmark) is the same too.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = 1e-3F * static_cast<float>(end->recorded_at - start->recorded_at);
  return cudaSuccess;
}

}  // extern "C"
