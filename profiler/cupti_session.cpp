#include "cupti_session.hpp"

#include <cupti.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

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
  std::mutex mutex;
  ActivityTimes times;

  static Library* collecting;

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
    const std::scoped_lock lock(mutex);
    CUpti_Activity* record = nullptr;
    while (next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) times.add(*record);
    std::size_t dropped = 0;
    if (dropped_records(context, stream, &dropped) == CUPTI_SUCCESS) {
      times.add_dropped(static_cast<std::int64_t>(dropped));
    }
  }
};

CuptiSession::Library* CuptiSession::Library::collecting = nullptr;

CuptiSession::CuptiSession(std::unique_ptr<Library> library) : library_(std::move(library)) {}

CuptiSession::~CuptiSession() = default;

CuptiSession* CuptiSession::open(std::string& reason) {
  // Another tool that holds CUPTI would lose its records to this one, or the other way round.
  for (const char* variable : {"CUDA_INJECTION64_PATH", "KINETO_USE_DAEMON"}) {
    if (std::getenv(variable) == nullptr) continue;
    reason = std::string("another tool holds CUPTI (") + variable + " is set)";
    return nullptr;
  }
  // Never closed: CUPTI keeps threads of its own.
  void* file = dlopen("libcupti.so.13", RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) {
    reason = "libcupti.so.13 is not there";
    return nullptr;
  }
  auto library = std::make_unique<Library>();
  bool is_complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
    is_complete = is_complete && function != nullptr;
  };
  find(library->register_callbacks, "cuptiActivityRegisterCallbacks");
  find(library->enable, "cuptiActivityEnable");
  find(library->disable, "cuptiActivityDisable");
  find(library->flush_all, "cuptiActivityFlushAll");
  find(library->next_record, "cuptiActivityGetNextRecord");
  find(library->dropped_records, "cuptiActivityGetNumDroppedRecords");
  find(library->push, "cuptiActivityPushExternalCorrelationId");
  find(library->pop, "cuptiActivityPopExternalCorrelationId");
  if (!is_complete) {
    reason = "libcupti.so.13 lacks what is needed of it";
    return nullptr;
  }
  Library::collecting = library.get();
  CUptiResult result = library->register_callbacks(&Library::give_buffer, &Library::take_buffer);
  if (result == CUPTI_SUCCESS) result = library->enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  if (result != CUPTI_SUCCESS) {
    Library::collecting = nullptr;
    reason = "CUPTI gives no records here (result " + std::to_string(result) + ")";
    return nullptr;
  }
  library->disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  // Lives as long as the process, as its callbacks may come at any time.
  static std::unique_ptr<CuptiSession> session;
  session.reset(new CuptiSession(std::move(library)));
  return session.get();
}

void CuptiSession::start() {
  {
    const std::scoped_lock lock(library_->mutex);
    library_->times = ActivityTimes();
  }
  for (const CUpti_ActivityKind kind : recorded_kinds) {
    const CUptiResult result = library_->enable(kind);
    if (result != CUPTI_SUCCESS) {
      throw DeviceError("CUPTI refuses to record (cuptiActivityEnable gives " +
                        std::to_string(result) + ")");
    }
  }
}

void CuptiSession::push(std::uint64_t number) {
  library_->push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, number);
}

void CuptiSession::pop() {
  std::uint64_t number = 0;
  library_->pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &number);
}

ActivitySummary CuptiSession::stop(std::size_t steps) {
  for (const CUpti_ActivityKind kind : recorded_kinds) library_->disable(kind);
  library_->flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const std::scoped_lock lock(library_->mutex);
  return library_->times.summary(steps);
}

}  // namespace tidemark
