// A GPU, real or phantom: PyTorch's caching allocator, streams and events.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "backend.hpp"
#include "cuda_meter.hpp"
#include "cuda_timers.hpp"

namespace tidemark {

// Whether a driver and a GPU answer.
[[nodiscard]] bool has_cuda();

class CudaBackend final : public Backend {
 public:
  // Makes the GPU the calling thread's current one. `computes`: false on the phantom. Throws
  // DeviceError in one sentence where the driver or the GPU does not answer.
  CudaBackend(c10::DeviceIndex index, bool computes);

  // The memory of the card, and what of it is free before any tensor exists.
  [[nodiscard]] Bytes total_bytes() const { return total_bytes_; }
  [[nodiscard]] Bytes free_bytes() const { return free_bytes_; }
  // What of the card is taken now, but not by the caching allocator: contexts, libraries and their
  // kernels, other processes.
  [[nodiscard]] Bytes taken_outside() const;

  // What the caching allocator may take from the device; absent: all that is free.
  void limit_memory(std::optional<Bytes> bytes);

  [[nodiscard]] c10::Device device() const override { return {c10::kCUDA, index_}; }
  [[nodiscard]] bool computes() const override { return computes_; }
  [[nodiscard]] MemoryMeter& meter() override { return meter_; }
  void reset_peaks() override;
  [[nodiscard]] std::optional<AllocatorReading> read_allocator() override;
  [[nodiscard]] std::optional<Bytes> pinned_reserved_bytes() override;
  void set_allocator_settings(const std::string& conf) override;
  void empty_caches() override;
  [[nodiscard]] std::vector<LibraryWorkspace> library_workspaces() override;
  void release_library_workspaces() override;
  [[nodiscard]] Bytes recomputation_workspace_bytes() override;
  [[nodiscard]] c10::Storage allocate_static(const std::string& name, Bytes bytes) override;
  [[nodiscard]] c10::DataPtr allocate_host(Bytes bytes, Place place) override;
  [[nodiscard]] std::string describe_out_of_memory() const override;
  void synchronize() override;
  void upload(void* to, const void* from, std::size_t bytes) override;
  void download(void* to, const void* from, std::size_t bytes) override;
  [[nodiscard]] std::unique_ptr<CopyQueues> make_queues() override;
  [[nodiscard]] std::unique_ptr<StepTimer> make_timer(std::size_t steps) override;
  [[nodiscard]] GeneratorState generator_state() const override;
  void restore(const GeneratorState& state) override;

 private:
  [[nodiscard]] CuptiSession* cupti();

  c10::DeviceIndex index_;
  bool computes_;
  Bytes total_bytes_ = 0;
  Bytes free_bytes_ = 0;
  CudaMeter& meter_;
  CuptiSession* cupti_ = nullptr;  // nullptr: not tried yet, or there is none
  bool has_tried_cupti_ = false;
  std::string no_cupti_reason_;
  TimedCopies side_copies_;  // of the execution that runs
};

}  // namespace tidemark
