#include "memory_bands.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

namespace tidemark {

namespace {

constexpr std::size_t most_block_bands = 10;

// In the order of Role; what is not held by a storage of the step comes last.
constexpr std::array<const char*, 10> role_bands{
    "parameters", "buffers",          "inputs",      "constants", "activations",
    "gradients",  "optimizer states", "temporaries", "outputs",   "workspace"};

// Neighbouring blocks share a band where there are many.
std::size_t blocks_per_band(std::size_t blocks) {
  return std::max<std::size_t>(1, (blocks + most_block_bands - 1) / most_block_bands);
}

std::vector<std::string> block_bands(const StepBlocks& blocks) {
  const std::vector<std::string> names = short_names(blocks.names());
  const std::size_t together = blocks_per_band(names.size());
  std::vector<std::string> bands{"static", "outside the blocks"};
  for (std::size_t first = 0; first < names.size(); first += together) {
    const std::size_t last = std::min(names.size(), first + together) - 1;
    bands.push_back(names[first] + (last > first ? " to " + names[last] : ""));
  }
  return bands;
}

using Levels = std::vector<std::vector<Bytes>>;

class BandWatcher final : public ReplayWatcher {
 public:
  BandWatcher(const StepTrace& trace, const StepBlocks& blocks, const Schedule& schedule,
              std::size_t most_points)
      : trace_(trace), blocks_(blocks), schedule_(schedule) {
    for (const BandView& view : band_views(blocks)) levels_.emplace_back(view.bands.size(), 0);
    const std::size_t stretches = std::max<std::size_t>(1, most_points / 2);
    stretch_ = std::max<std::size_t>(1, (schedule.steps.size() + stretches - 1) / stretches);
    picture_.recompute_seconds.assign(blocks.names().size() + 1, 0);
    picture_.transfer_seconds.assign(blocks.names().size() + 1, 0);
    picture_.has_times = std::any_of(trace.ops.begin(), trace.ops.end(),
                                     [](const Op& op) { return op.duration.count() > 0; });
  }

  void came(const Instance& instance) override { change(instance, instance.bytes); }
  void went(const Instance& instance) override { change(instance, -instance.bytes); }

  void during(std::size_t step, Bytes live_bytes, Bytes host_bytes) override {
    if (step % stretch_ == 0) end_stretch();
    const double place = picture_.has_times ? clock_ : static_cast<double>(step);
    const auto point = [&] { return BandPoint{step, place, live_bytes, host_bytes, levels_}; };
    if (!highest_ || live_bytes > highest_->live_bytes) highest_ = point();
    if (!lowest_ || live_bytes < lowest_->live_bytes) lowest_ = point();
  }

  void done(std::size_t step, Queue queue, double begin, double end) override {
    if (queue == Queue::compute) clock_ = end;
    running_ = step + 1;
    const Step& each = schedule_.steps[step];
    if (const auto* run = std::get_if<Run>(&each.action)) {
      if (each.cause == Cause::recompute)
        at(picture_.recompute_seconds, blocks_.of(run->op)) += end - begin;
    } else if (const auto* copy = std::get_if<Copy>(&each.action)) {
      at(picture_.transfer_seconds, consumer(copy->to)) += end - begin;
    } else if (const auto* collective = std::get_if<Collective>(&each.action)) {
      at(picture_.transfer_seconds, consumer(collective->output)) += end - begin;
    }
  }

  [[nodiscard]] BandPicture finish() {
    end_stretch();
    const auto is_lower = [](const BandPoint& a, const BandPoint& b) {
      return a.live_bytes < b.live_bytes;
    };
    const auto peak = std::max_element(picture_.points.begin(), picture_.points.end(), is_lower);
    picture_.peak = static_cast<std::size_t>(peak - picture_.points.begin());
    return std::move(picture_);
  }

 private:
  static double& at(std::vector<double>& seconds, std::optional<std::size_t> block) {
    return seconds[block.value_or(seconds.size() - 1)];
  }

  [[nodiscard]] std::optional<std::size_t> consumer(InstanceId id) const {
    return blocks_.reader(schedule_.instances[index(id)].storage);
  }

  // Workspace belongs to the operator that runs.
  [[nodiscard]] std::optional<std::size_t> block_of(const Instance& instance) const {
    if (instance.term != Term::workspace) return blocks_.maker(instance.storage);
    const auto* run = std::get_if<Run>(&schedule_.steps[running_].action);
    return run == nullptr ? std::nullopt : blocks_.of(run->op);
  }

  void change(const Instance& instance, Bytes bytes) {
    if (instance.place != Place::device) return;
    const auto term = static_cast<std::size_t>(instance.term);
    levels_[0][term] += bytes;
    const std::size_t role =
        instance.storage == no_storage
            ? role_bands.size() - 1
            : static_cast<std::size_t>(trace_.storages[index(instance.storage)].role);
    levels_[1][role] += bytes;
    std::size_t band = instance.term == Term::static_memory ? 0 : 1;
    if (band == 1) {
      if (const auto block = block_of(instance)) {
        band = 2 + *block / blocks_per_band(blocks_.names().size());
      }
    }
    levels_[2][band] += bytes;
  }

  void end_stretch() {
    if (!highest_ || !lowest_) return;
    const bool is_one = highest_->step == lowest_->step;
    const bool falls = highest_->step < lowest_->step;
    picture_.points.push_back(std::move(falls ? *highest_ : *lowest_));
    if (!is_one) picture_.points.push_back(std::move(falls ? *lowest_ : *highest_));
    highest_.reset();
    lowest_.reset();
  }

  const StepTrace& trace_;
  const StepBlocks& blocks_;
  const Schedule& schedule_;
  BandPicture picture_;
  Levels levels_;
  std::optional<BandPoint> highest_;
  std::optional<BandPoint> lowest_;
  std::size_t stretch_ = 1;
  std::size_t running_ = 0;
  double clock_ = 0;
};

}  // namespace

std::vector<BandView> band_views(const StepBlocks& blocks) {
  std::vector<BandView> views(3);
  views[0].name = "part";
  for (std::size_t t = 0; t < term_count; ++t) {
    views[0].bands.emplace_back(title(static_cast<Term>(t)));
  }
  views[1].name = "role";
  views[1].bands.assign(role_bands.begin(), role_bands.end());
  views[2].name = "block";
  views[2].bands = block_bands(blocks);
  return views;
}

BandPicture draw_bands(const StepTrace& trace, const StepBlocks& blocks, const Schedule& schedule,
                       std::size_t most_points) {
  BandWatcher watcher(trace, blocks, schedule, most_points);
  replay(trace, schedule, watcher);
  return watcher.finish();
}

}  // namespace tidemark
