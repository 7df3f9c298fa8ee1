#include "fake_cupti.hpp"

#include <cstring>

using tidemark::FakeCupti;

namespace tidemark {

namespace {

// Only ever walked by the functions below, which know this layout: kernels, then correlations.
std::size_t kernels_in_buffer = 0;

template <typename Record>
std::size_t append(std::uint8_t* to, const std::vector<Record>& records) {
  if (!records.empty()) std::memcpy(to, records.data(), records.size() * sizeof(Record));
  return records.size() * sizeof(Record);
}

}  // namespace

}  // namespace tidemark

extern "C" {

FakeCupti* fake_cupti() {
  static FakeCupti fake;
  return &fake;
}

CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                           CUpti_BuffersCallbackCompleteFunc complete) {
  fake_cupti()->request = request;
  fake_cupti()->complete = complete;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (kind == fake_cupti()->refused) return CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
  fake_cupti()->enabled.insert(kind);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
  fake_cupti()->enabled.erase(kind);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityFlushAll(std::uint32_t) {
  FakeCupti& fake = *fake_cupti();
  if (fake.kernels.empty()) return CUPTI_SUCCESS;
  std::uint8_t* buffer = nullptr;
  std::size_t size = 0;
  std::size_t records = 0;
  fake.request(&buffer, &size, &records);
  tidemark::kernels_in_buffer = fake.kernels.size();
  std::size_t valid = tidemark::append(buffer, fake.kernels);
  valid += tidemark::append(buffer + valid, fake.correlations);
  fake.kernels.clear();
  fake.correlations.clear();
  fake.complete(nullptr, 0, buffer, size, valid);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityGetNextRecord(std::uint8_t* buffer, std::size_t valid,
                                       CUpti_Activity** record) {
  const std::size_t kernel_bytes = tidemark::kernels_in_buffer * sizeof(CUpti_ActivityKernel10);
  std::size_t offset = 0;
  if (*record != nullptr) {
    const auto at = static_cast<std::size_t>(reinterpret_cast<std::uint8_t*>(*record) - buffer);
    offset = at + (at < kernel_bytes ? sizeof(CUpti_ActivityKernel10)
                                     : sizeof(CUpti_ActivityExternalCorrelation));
  }
  if (offset >= valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(buffer + offset);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, std::uint32_t, std::size_t* dropped) {
  *dropped = fake_cupti()->dropped;
  fake_cupti()->dropped = 0;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind,
                                                   std::uint64_t id) {
  fake_cupti()->pushed.push_back(id);
  return CUPTI_SUCCESS;
}

CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind,
                                                  std::uint64_t* last) {
  if (fake_cupti()->pushed.empty()) return CUPTI_ERROR_QUEUE_EMPTY;
  *last = fake_cupti()->pushed.back();
  fake_cupti()->pushed.pop_back();
  return CUPTI_SUCCESS;
}

CUptiResult cuptiGetTimestamp(std::uint64_t* timestamp) {
  *timestamp = fake_cupti()->now;
  return CUPTI_SUCCESS;
}

CUptiResult cuptiGetResultString(CUptiResult result, const char** text) {
  if (result != CUPTI_ERROR_INSUFFICIENT_PRIVILEGES) return CUPTI_ERROR_INVALID_PARAMETER;
  *text = "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES";
  return CUPTI_SUCCESS;
}

}  // extern "C"
