// Which values lie on the host for a while, and when their copies run.
//
//   value v:   made  last use        freed          fetched   back    next use
//              2     5 ============= 9 . . . . . . . 24 ===== 29 ==== 31        = on the device
//                    copy to the host                copy to the device
//
// Each direction has its own queue, whose copies run one after the other beside the operators. The
// copies are timed by the operators' own times: running operators again moves every later position
// by at least as much as every earlier one, so that a copy which is in time stays in time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "retention.hpp"
#include "step_graph.hpp"

namespace tidemark::tide {

// Achieved bandwidths of pinned memory, in bytes per second; absent: the trace knows none.
struct OffloadRates {
  double to_host = 0;
  double to_device = 0;
};
[[nodiscard]] std::optional<OffloadRates> offload_rates(const StepTrace& trace);

class OffloadChoice {
 public:
  // With a stretch the step is taken to last so many times longer than its operators do, because
  // some will run again; where they do not, compute waits for copies.
  OffloadChoice(const StepGraph& graph, const Retention& everything, OffloadRates rates,
                double stretch);

  // The values dearest to make again per byte first, as long as there are moments above the budget,
  // the copies are in time, and the host has room.
  [[nodiscard]] std::vector<Offload> choose(Bytes budget, Bytes host_budget) const;

 private:
  // The longest time between two uses of a value.
  struct Candidate {
    Offload offload;  // with its first and last position
    double to_host_seconds = 0;
    double to_device_seconds = 0;
    double price = 0;  // nanoseconds per byte of making it again
  };

  void find_candidates(const Retention& everything);
  [[nodiscard]] Position needed_again(const Retention& everything, ValueId v, Position after,
                                      Position next) const;
  // Sets when each is freed and fetched. False: a copy would be late.
  [[nodiscard]] bool time_copies(std::vector<Candidate>& chosen) const;
  // The first position that begins at or after the time, and the last that begins before it.
  [[nodiscard]] Position first_from(double time) const;
  [[nodiscard]] Position last_until(double time) const;

  const StepGraph& graph_;
  OffloadRates rates_;
  std::vector<double> begin_;  // by position: seconds at which it begins
  std::vector<Bytes> levels_;  // by position, when everything is held
  std::vector<Candidate> candidates_;
};

}  // namespace tidemark::tide
