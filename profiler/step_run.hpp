// One execution of one schedule. Private to the executor.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "executor.hpp"

namespace tidemark {

struct StepRunParts {
  const StepTrace& trace;
  const StaticMemory& statics;
  std::vector<BoxedCall>& calls;
  CopyQueue& offload;
  CopyQueue& fetch;
};

class StepRun {
 public:
  StepRun(const StepRunParts& parts, const Schedule& schedule);
  StepRun(const StepRun&) = delete;
  StepRun& operator=(const StepRun&) = delete;
  // Side queues may still copy when a step fails.
  ~StepRun();

  [[nodiscard]] ExecutedStep execute();

 private:
  // Work that a side queue finishes: no queue means that it is done when its step is.
  struct Event {
    CopyQueue* queue = nullptr;
    std::uint64_t number = 0;
  };

  void apply(const Run& run);
  void apply(const Allocate& allocate);
  void apply(const Free& free);
  void apply(const Copy& copy);
  void apply(const Wait& wait);
  void apply(const Collective& collective);
  void bind(const std::vector<StorageId>& storages, const std::vector<InstanceId>& instances);
  void unbind(const std::vector<StorageId>& storages);
  void call(const Run& run);
  void name_peak(const Step& step, Bytes live);
  [[nodiscard]] Bytes unnamed_bytes(const Run& run) const;
  [[nodiscard]] CopyQueue* side_queue(Queue queue) const;
  [[nodiscard]] StepResults results();
  void total_times(ExecutedStep& executed) const;
  [[nodiscard]] std::int64_t now() const;

  const StepRunParts& parts_;
  const StepTrace& trace_;
  const Schedule& schedule_;
  ExecutionMemory memory_;
  std::vector<const c10::Storage*> statics_;  // by storage: what is bound when nothing else is
  std::vector<const c10::Storage*> bound_;
  std::vector<c10::Storage> made_;
  std::vector<std::int32_t> runs_left_;  // by operator
  std::vector<std::optional<GeneratorState>> generators_;
  std::vector<Event> events_;  // by step
  std::atomic<std::int64_t> side_transfer_nanoseconds_{0};
  ExecutedStep executed_;
  Bytes base_ = 0;
  std::size_t step_ = 0;
  Bytes host_before_ = 0;
  std::array<Bytes, term_count> terms_before_{};
  std::chrono::steady_clock::time_point start_;
};

}  // namespace tidemark
