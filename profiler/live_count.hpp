// How many bytes are alive, and the most at once, where some of them belong to threads whose
// overlap nobody knows.
#pragma once

#include <algorithm>
#include <vector>

#include "memory_meter.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

// A parallel region of two workers that each allocate, free and allocate again; bytes in front:
//
//   worker 0:   64 ######    128 ############
//   worker 1:        64 ######      128 ############      at most 256 at once, at least 192
//
// Which it is depends on the run, so the peak is the sum of each worker's own peak, 256: no run
// exceeds it, and each run counts the same.
class LiveCount {
 public:
  void allocate(Bytes bytes, WorkerId worker) {
    if (worker == no_worker) {
      outside_ += bytes;
      peak_ = std::max(peak_, current());
      return;
    }
    Worker& its = worker_of(worker);
    its.level += bytes;
    workers_ += bytes;
    worker_peaks_ += std::max<Bytes>(0, its.level - its.peak);
    its.peak = std::max(its.peak, its.level);
    peak_ = std::max(peak_, outside_ + worker_peaks_);
  }

  // `worker`: who allocated the block, whoever frees it.
  void free(Bytes bytes, WorkerId worker) {
    if (worker == no_worker) {
      outside_ -= bytes;
      return;
    }
    worker_of(worker).level -= bytes;
    workers_ -= bytes;
  }

  void reset_peak() {
    for (Worker& worker : by_worker_) worker.peak = worker.level;
    worker_peaks_ = workers_;
    peak_ = current();
  }

  [[nodiscard]] Bytes current() const { return outside_ + workers_; }
  [[nodiscard]] Bytes peak() const { return peak_; }

 private:
  struct Worker {
    Bytes level = 0;
    Bytes peak = 0;  // since reset_peak()
  };

  Worker& worker_of(WorkerId worker) {
    if (index(worker) >= by_worker_.size()) by_worker_.resize(index(worker) + 1);
    return by_worker_[index(worker)];
  }

  Bytes outside_ = 0;
  Bytes workers_ = 0;       // sum of the levels
  Bytes worker_peaks_ = 0;  // sum of the peaks
  Bytes peak_ = 0;
  std::vector<Worker> by_worker_;
};

}  // namespace tidemark
