// The CPU: the counting allocator, a thread for each copy queue, the wall clock.
#pragma once

#include <atomic>
#include <cstdint>

#include "backend.hpp"

namespace tidemark {

class CpuBackend final : public Backend {
 public:
  // Installs the counting allocator.
  CpuBackend();

  [[nodiscard]] c10::Device device() const override { return {c10::kCPU}; }
  [[nodiscard]] bool computes() const override { return true; }
  [[nodiscard]] MemoryMeter& meter() override;
  void reset_peaks() override { meter().reset_peak(); }
  [[nodiscard]] std::optional<AllocatorReading> read_allocator() override { return std::nullopt; }
  [[nodiscard]] std::optional<Bytes> pinned_reserved_bytes() override { return std::nullopt; }
  void set_allocator_settings(const std::string&) override {}
  void empty_caches() override {}
  [[nodiscard]] std::vector<LibraryWorkspace> library_workspaces() override { return {}; }
  void release_library_workspaces() override {}
  [[nodiscard]] Bytes recomputation_workspace_bytes() override { return 0; }
  [[nodiscard]] c10::Storage allocate_static(const std::string& name, Bytes bytes) override;
  [[nodiscard]] c10::DataPtr allocate_host(Bytes bytes, Place place) override;
  [[nodiscard]] std::string describe_out_of_memory() const override;
  void synchronize() override {}
  void upload(void* to, const void* from, std::size_t bytes) override;
  void download(void* to, const void* from, std::size_t bytes) override;
  [[nodiscard]] std::unique_ptr<CopyQueues> make_queues() override;
  [[nodiscard]] std::unique_ptr<StepTimer> make_timer(std::size_t steps) override;
  [[nodiscard]] GeneratorState generator_state() const override { return GeneratorState::take(); }
  void restore(const GeneratorState& state) override { state.restore(); }

 private:
  std::atomic<std::int64_t> side_copy_ns_{0};  // of the execution that runs
};

// Bytes outside counted memory.
[[nodiscard]] c10::DataPtr allocate_pageable(Bytes bytes);

}  // namespace tidemark
