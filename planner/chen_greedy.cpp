// The greedy plan of Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost,
// arXiv 1604.06174, algorithm 3: walk the step in order, close a segment where the bytes made since
// the last one exceed b, and try several b around the square root of (all bytes times the largest
// stage). The stages are the blocks, or forward's operators where there are none; what crosses a
// segment's end and is used later in forward is kept, everything else that forward made in stages
// is made again once, when backward needs it.
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "recompute_once.hpp"
#include "strategies.hpp"

namespace tidemark {

namespace {

using tide::Position;
using tide::ValueId;

// Sizes of b, as powers of the square root of two times the middle one.
constexpr int smallest_power = -4;
constexpr int largest_power = 4;

class Greedy {
 public:
  Greedy(const StepTrace& trace, const PlanRequest& request) : once_(trace, request) {
    find_stages(request.runs);
    measure_stages();
  }

  [[nodiscard]] Proposal plan() {
    Proposal proposal;
    double total = 0;
    double largest = 0;
    for (const Bytes bytes : stage_bytes_) {
      total += static_cast<double>(bytes);
      largest = std::max(largest, static_cast<double>(bytes));
    }
    std::set<std::vector<Position>> tried;
    for (int power = smallest_power; power <= largest_power; ++power) {
      const double b = std::sqrt(total * largest) * std::pow(2.0, power / 2.0);
      const auto [cuts, is_new] = tried.insert(cut(b));
      if (is_new) proposal.schedules.push_back(schedule(*cuts));
    }
    return proposal;
  }

 private:
  void find_stages(const std::vector<BlockRun>& runs) {
    begin_ = runs.empty() ? 0 : once_.backward();
    for (const BlockRun& run : runs) {
      begin_ = std::min(begin_, static_cast<Position>(run.blocks.front().first));
      for (const Block& block : run.blocks) ends_.push_back(static_cast<Position>(block.last));
    }
    for (Position p = 0; runs.empty() && p < once_.backward(); ++p) ends_.push_back(p);
    std::sort(ends_.begin(), ends_.end());
  }

  void measure_stages() {
    Position p = begin_;
    for (const Position end : ends_) {
      Bytes bytes = 0;
      for (; p <= end; ++p) {
        for (const ValueId v : once_.graph().at(p).creates) bytes += once_.graph().value(v).bytes;
      }
      stage_bytes_.push_back(bytes);
    }
  }

  [[nodiscard]] std::vector<Position> cut(double b) const {
    std::vector<Position> cuts;
    double since_cut = 0;
    for (std::size_t stage = 0; stage < ends_.size(); ++stage) {
      since_cut += static_cast<double>(stage_bytes_[stage]);
      if (since_cut <= b) continue;
      cuts.push_back(ends_[stage]);
      since_cut = 0;
    }
    return cuts;
  }

  [[nodiscard]] bool crosses(ValueId v, const std::vector<Position>& cuts) const {
    const auto cut = std::lower_bound(cuts.begin(), cuts.end(), once_.graph().value(v).creator);
    return cut != cuts.end() && once_.last_use_in_forward(v) > *cut;
  }

  [[nodiscard]] Schedule schedule(const std::vector<Position>& cuts) const {
    std::vector<char> is_kept(static_cast<std::size_t>(once_.graph().value_count()), 1);
    const Position end = ends_.empty() ? -1 : ends_.back();
    for (Position p = begin_; p <= end; ++p) {
      for (const ValueId v : once_.graph().at(p).creates) {
        is_kept[static_cast<std::size_t>(v)] = crosses(v, cuts) ? 1 : 0;
      }
    }
    return once_.schedule(std::move(is_kept));
  }

  RecomputeOnce once_;
  Position begin_ = 0;              // of the first stage
  std::vector<Position> ends_;      // of the stages, ascending
  std::vector<Bytes> stage_bytes_;  // made in each stage and since the one before
};

class ChenGreedy final : public Planner {
 public:
  [[nodiscard]] std::string_view name() const override { return "chen-greedy"; }
  [[nodiscard]] std::string_view description() const override {
    return "segments of about equally many bytes, several sizes tried";
  }
  [[nodiscard]] Proposal plan(const StepTrace& trace, const PlanRequest& request) const override {
    return Greedy(trace, request).plan();
  }
};

}  // namespace

const Planner& chen_greedy_planner() {
  static const ChenGreedy planner;
  return planner;
}

}  // namespace tidemark
