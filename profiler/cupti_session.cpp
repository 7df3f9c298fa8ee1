#include "cupti_session.hpp"

#include <cupti.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#include "library_functions.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

constexpr std::size_t buffer_bytes = std::size_t{4} << 20;
constexpr std::size_t record_alignment = 8;

constexpr std::array recorded_kinds{CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                    CUPTI_ACTIVITY_KIND_MEMCPY,
                                    CUPTI_ACTIVITY_KIND_MEMCPY2,
                                    CUPTI_ACTIVITY_KIND_MEMSET,
                                    CUPTI_ACTIVITY_KIND_SYNCHRONIZATION,
                                    CUPTI_ACTIVITY_KIND_RUNTIME,
                                    CUPTI_ACTIVITY_KIND_DRIVER,
                                    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};

}  // namespace

// The entry points, and what the callbacks collect. CUPTI calls plain functions on its own thread,
// so they reach it through `collecting`.
struct CuptiSession::Library {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped_records = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop = nullptr;
  decltype(&cuptiGetTimestamp) timestamp = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;
  std::mutex mutex;
  ActivityTimes times;

  static Library* collecting;

  [[nodiscard]] bool find_functions(void* file) {
    LibraryFunctions functions(file);
    functions.find(register_callbacks, "cuptiActivityRegisterCallbacks");
    functions.find(enable, "cuptiActivityEnable");
    functions.find(disable, "cuptiActivityDisable");
    functions.find(flush_all, "cuptiActivityFlushAll");
    functions.find(next_record, "cuptiActivityGetNextRecord");
    functions.find(dropped_records, "cuptiActivityGetNumDroppedRecords");
    functions.find(push, "cuptiActivityPushExternalCorrelationId");
    functions.find(pop, "cuptiActivityPopExternalCorrelationId");
    functions.find(timestamp, "cuptiGetTimestamp");
    functions.find(result_string, "cuptiGetResultString");
    return functions.is_complete();
  }

  // "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES (35)".
  [[nodiscard]] std::string name_of(CUptiResult result) const {
    const char* name = nullptr;
    const bool is_known = result_string(result, &name) == CUPTI_SUCCESS && name != nullptr;
    return (is_known ? std::string(name) : std::string("result")) + " (" + std::to_string(result) +
           ")";
  }

  // All kinds or none of them.
  [[nodiscard]] CUptiResult enable_all() {
    for (const CUpti_ActivityKind kind : recorded_kinds) {
      const CUptiResult result = enable(kind);
      if (result == CUPTI_SUCCESS) continue;
      disable_all();
      return result;
    }
    return CUPTI_SUCCESS;
  }

  void disable_all() {
    for (const CUpti_ActivityKind kind : recorded_kinds) disable(kind);
  }

  [[nodiscard]] std::uint64_t now() const {
    std::uint64_t time = 0;
    timestamp(&time);
    return time;
  }

  static void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* records) {
    *size = buffer_bytes;
    *records = 0;  // as many as fit
    *buffer = static_cast<std::uint8_t*>(
        ::operator new (buffer_bytes, std::align_val_t{record_alignment}));
  }

  static void CUPTIAPI take_buffer(CUcontext context, std::uint32_t stream, std::uint8_t* buffer,
                                   std::size_t, std::size_t valid_bytes) {
    if (collecting != nullptr) collecting->read(context, stream, buffer, valid_bytes);
    ::operator delete (buffer, std::align_val_t{record_alignment});
  }

  void read(CUcontext context, std::uint32_t stream, std::uint8_t* buffer,
            std::size_t valid_bytes) {
    // Asked before the lock is taken: CUPTI has locks of its own.
    std::size_t dropped = 0;
    if (dropped_records(context, stream, &dropped) != CUPTI_SUCCESS) dropped = 0;
    const std::scoped_lock lock(mutex);
    times.add_dropped(static_cast<std::int64_t>(dropped));
    CUpti_Activity* record = nullptr;
    while (valid_bytes > 0 && next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
      times.add(*record);
    }
  }
};

CuptiSession::Library* CuptiSession::Library::collecting = nullptr;

CuptiSession::CuptiSession(std::unique_ptr<Library> library) : library_(std::move(library)) {}

CuptiSession::~CuptiSession() = default;

CuptiSession* CuptiSession::open(std::string& reason, const char* file) {
  // Another tool that holds CUPTI would lose its records to this one, or the other way round.
  for (const char* variable : {"CUDA_INJECTION64_PATH", "KINETO_USE_DAEMON"}) {
    if (std::getenv(variable) == nullptr) continue;
    reason = std::string("another tool holds CUPTI (") + variable + " is set)";
    return nullptr;
  }
  // Never closed: CUPTI keeps threads of its own.
  void* opened = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) {
    reason = std::string(file) + " is not there";
    return nullptr;
  }
  auto library = std::make_unique<Library>();
  if (!library->find_functions(opened)) {
    reason = std::string(file) + " lacks what is needed of it";
    return nullptr;
  }
  Library::collecting = library.get();
  CUptiResult result = library->register_callbacks(&Library::give_buffer, &Library::take_buffer);
  if (result == CUPTI_SUCCESS) result = library->enable_all();
  if (result != CUPTI_SUCCESS) {
    reason = "CUPTI gives no records here, " + library->name_of(result);
    Library::collecting = nullptr;
    return nullptr;
  }
  library->disable_all();
  return new CuptiSession(std::move(library));
}

void CuptiSession::start() {
  if (is_recording_) {
    library_->flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  } else if (const CUptiResult result = library_->enable_all(); result != CUPTI_SUCCESS) {
    throw DeviceError("CUPTI records no more: cuptiActivityEnable gives " +
                      library_->name_of(result));
  }
  is_recording_ = true;
  started_at_ = library_->now();
  const std::scoped_lock lock(library_->mutex);
  library_->times = ActivityTimes();
}

void CuptiSession::push(std::uint64_t number) {
  library_->push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, number);
}

void CuptiSession::pop() {
  std::uint64_t number = 0;
  library_->pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &number);
}

ActivitySummary CuptiSession::stop(std::size_t steps) {
  library_->flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const std::uint64_t now = library_->now();
  const std::scoped_lock lock(library_->mutex);
  library_->times.set_window(static_cast<std::int64_t>(started_at_),
                             static_cast<std::int64_t>(now));
  return library_->times.summary(steps);
}

void CuptiSession::rest() {
  library_->disable_all();
  is_recording_ = false;
}

}  // namespace tidemark
