// The record of this process, and the counting of calls in it.
#include "process_record.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

#include "machine.hpp"
#include "unanswered.hpp"

namespace tidemark::phantom {

namespace {

// At `where`, which may be null. Null when the folder is gone or full: the process then runs
// unrecorded.
void* map_file(const std::string& folder, void* where) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    // A process may replace itself (exec) and keep its number.
    const std::string path =
        folder + "/" + std::to_string(getpid()) + "." + std::to_string(attempt);
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST) continue;
    if (file < 0) return nullptr;
    void* memory = MAP_FAILED;
    if (ftruncate(file, sizeof(ProcessRecord)) == 0) {
      memory = mmap(where, sizeof(ProcessRecord), PROT_READ | PROT_WRITE,
                    where == nullptr ? MAP_SHARED : MAP_SHARED | MAP_FIXED, file, 0);
    }
    close(file);
    return memory == MAP_FAILED ? nullptr : memory;
  }
  return nullptr;
}

void describe_process(ProcessRecord& record, int device_count) {
  record.magic = ProcessRecord::magic_number;
  record.process = getpid();
  record.parent = getppid();
  const char* rank = std::getenv("RANK");
  record.rank = rank == nullptr ? -1 : std::atoi(rank);
  record.device_count = device_count;
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line{std::istreambuf_iterator<char>(file), {}};
  if (!line.empty() && line.back() == '\0') line.pop_back();
  std::replace(line.begin(), line.end(), '\0', ' ');
  line.resize(std::min(line.size(), record.command.size() - 1));
  std::copy(line.begin(), line.end(), record.command.begin());
}

CallRecord* add_call(ProcessRecord& record, const char* name, Answer answer) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const int count = record.call_count.load();
  for (int i = 0; i < count; ++i) {
    CallRecord& call = record.calls[static_cast<std::size_t>(i)];
    if (std::strcmp(call.name.data(), name) == 0) return &call;
  }
  if (static_cast<std::size_t>(count) == most_calls) return nullptr;
  CallRecord& call = record.calls[static_cast<std::size_t>(count)];
  std::snprintf(call.name.data(), call.name.size(), "%s", name);
  call.answer = answer;
  record.call_count.store(count + 1);
  return &call;
}

}  // namespace

ProcessRecord* make_process_record(int device_count) {
  const char* folder = std::getenv(records_variable);
  void* memory = folder == nullptr ? nullptr : map_file(folder, nullptr);
  if (memory == nullptr) memory = std::calloc(1, sizeof(ProcessRecord));
  if (memory == nullptr) std::abort();
  auto* record = static_cast<ProcessRecord*>(memory);
  describe_process(*record, device_count);
  return record;
}

void renew_process_record(ProcessRecord& record) {
  struct Call {
    std::array<char, sizeof CallRecord::name> name;
    Answer answer;
  };
  // Known calls keep their places, which the callers remember.
  std::vector<Call> calls(static_cast<std::size_t>(record.call_count.load()));
  for (std::size_t i = 0; i < calls.size(); ++i) {
    std::copy_n(record.calls[i].name.begin(), calls[i].name.size(), calls[i].name.begin());
    calls[i].answer = record.calls[i].answer;
  }
  const std::int32_t device_count = record.device_count;
  const std::int32_t is_observed = record.is_observed;
  void* const memory = &record;
  const char* folder = std::getenv(records_variable);
  if (folder == nullptr) {
    std::memset(memory, 0, sizeof record);
  } else if (map_file(folder, memory) == nullptr) {
    // The parent's must not be written to.
    void* own = mmap(memory, sizeof record, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (own == MAP_FAILED) std::abort();
  }
  describe_process(record, device_count);
  record.is_observed = is_observed;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    record.calls[i].name = calls[i].name;
    record.calls[i].answer = calls[i].answer;
  }
  record.call_count = static_cast<std::int32_t>(calls.size());
}

}  // namespace tidemark::phantom

extern "C" {

tidemark::phantom::ProcessRecord* tidemark_phantom_record() {
  return &tidemark::phantom::Machine::get().record();
}

void tidemark_phantom_count(const char* name, tidemark::phantom::Answer answer,
                            std::atomic<tidemark::phantom::CallRecord*>* record) {
  tidemark::phantom::CallRecord* call = record->load();
  if (call == nullptr) {
    call = tidemark::phantom::add_call(*tidemark_phantom_record(), name, answer);
    record->store(call);
  }
  if (call != nullptr) call->times.fetch_add(1);
}

}  // extern "C"
