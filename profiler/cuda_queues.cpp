#include "cuda_queues.hpp"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

namespace tidemark {

CudaQueues::CudaQueues(c10::DeviceIndex device, TimedCopies* timed)
    : compute_(c10::cuda::getCurrentCUDAStream(device)), timed_(timed) {
  if (timed_ != nullptr) timed_->clear();
}

CudaQueues::~CudaQueues() {
  // An execution that ended early must not leave copies into memory that goes.
  for (const auto& side : side_) {
    if (side) cudaStreamSynchronize(side->stream());
  }
}

c10::cuda::CUDAStream CudaQueues::stream(Queue queue) {
  if (queue == Queue::compute) return compute_;
  std::optional<c10::cuda::CUDAStream>& side = side_[static_cast<std::size_t>(queue)];
  if (!side) {
    side = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, compute_.device_index());
  }
  return *side;
}

void CudaQueues::copy(StepId step, const MemoryCopy& copy) {
  if (copy.bytes == 0) return;
  if (copy.queue != Queue::compute) return copy_on_side(step, copy);
  C10_CUDA_CHECK(
      cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDefault, compute_.stream()));
  // A copy to or from pageable memory blocks its caller.
  const auto is_pageable = [](Place place) {
    return place == Place::host_pageable || place == Place::peer;
  };
  if (is_pageable(copy.to_place) || is_pageable(copy.from_place)) {
    C10_CUDA_CHECK(cudaStreamSynchronize(compute_.stream()));
  }
}

void CudaQueues::copy_on_side(StepId step, const MemoryCopy& copy) {
  const c10::cuda::CUDAStream side = stream(copy.queue);
  wait_for_compute(copy.queue);
  for (const auto& [place, data] : {std::pair(copy.to_place, static_cast<const void*>(copy.to)),
                                    std::pair(copy.from_place, copy.from)}) {
    if (place != Place::host_pinned) continue;
    const auto last = last_copy_of_pinned_.find(data);
    if (last != last_copy_of_pinned_.end()) {
      done_.at(static_cast<std::int32_t>(last->second)).block(side);
    }
    last_copy_of_pinned_[data] = step;
  }
  if (timed_ != nullptr) {
    timed_->emplace_back(at::cuda::CUDAEvent(cudaEventDefault),
                         at::cuda::CUDAEvent(cudaEventDefault));
    timed_->back().first.record(side);
  }
  C10_CUDA_CHECK(cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDefault, side.stream()));
  if (timed_ != nullptr) timed_->back().second.record(side);
  done_[static_cast<std::int32_t>(step)].record(side);
}

void CudaQueues::wait(Queue queue, StepId event) {
  const auto done = done_.find(static_cast<std::int32_t>(event));
  // A copy of nothing is done at once.
  if (done != done_.end()) done->second.block(stream(queue));
}

void CudaQueues::wait_for_compute(Queue queue) {
  at::cuda::CUDAEvent so_far;
  so_far.record(compute_);
  so_far.block(stream(queue));
}

void CudaQueues::finish() {
  for (const auto& side : side_) {
    if (side) C10_CUDA_CHECK(cudaStreamSynchronize(side->stream()));
  }
  C10_CUDA_CHECK(cudaStreamSynchronize(compute_.stream()));
}

}  // namespace tidemark
