// Copies on a GPU: side queues are streams, events order them. No block is ever left to
// record_stream: the schedule frees only what the compute stream has waited for.
#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend.hpp"

namespace tidemark {

// Begin and end of each copy on a side stream.
using TimedCopies = std::vector<std::pair<at::cuda::CUDAEvent, at::cuda::CUDAEvent>>;

class CudaQueues final : public CopyQueues {
 public:
  // `timed`: where the times of side copies go; nullptr: they are not taken.
  CudaQueues(c10::DeviceIndex device, TimedCopies* timed);
  // Waits for what is under way.
  ~CudaQueues() override;

  void copy(StepId step, const MemoryCopy& copy) override;
  void wait(Queue queue, StepId event) override;
  void wait_for_compute(Queue queue) override;
  void finish() override;

 private:
  [[nodiscard]] c10::cuda::CUDAStream stream(Queue queue);
  void copy_on_side(StepId step, const MemoryCopy& copy);

  c10::cuda::CUDAStream compute_;
  std::array<std::optional<c10::cuda::CUDAStream>, queue_count> side_;
  std::unordered_map<std::int32_t, at::cuda::CUDAEvent> done_;  // by step
  // Pinned blocks go back to their pool when the schedule frees them, which the host does before
  // the GPU is done with them: whoever copies to or from such a block next waits for its last copy.
  std::unordered_map<const void*, StepId> last_copy_of_pinned_;
  TimedCopies* timed_;
};

}  // namespace tidemark
