// What a replay tells of its peak beyond the sums: who is there, and what would be left without.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "tidemark/prediction.hpp"

namespace tidemark {

class PeakReplay final : public ReplayWatcher {
 public:
  PeakReplay(const StepTrace& trace, const Schedule& schedule);

  void came(const Instance& instance) override;
  void went(const Instance& instance) override;
  void during(std::size_t step, Bytes live_bytes, Bytes host_bytes) override;
  void done(std::size_t, Queue, double, double) override {}

  [[nodiscard]] std::size_t peak_step() const { return peak_step_; }
  [[nodiscard]] Bytes peak_bytes() const { return peak_; }
  [[nodiscard]] Bytes peak_without(Term term) const {
    return without_[static_cast<std::size_t>(term)];
  }
  // What is on the device at the peak.
  [[nodiscard]] const std::vector<Instance>& holders() const { return holders_; }

 private:
  std::vector<Instance> alive_;
  std::array<Bytes, term_count> by_term_{};
  std::array<Bytes, term_count> without_{};
  std::vector<Instance> holders_;
  Bytes peak_ = 0;
  std::size_t peak_step_ = 0;
};

}  // namespace tidemark
