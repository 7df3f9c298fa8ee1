#include "offload.hpp"

#include <algorithm>
#include <utility>

#include "at.hpp"
#include "level_tree.hpp"

namespace tidemark::tide {

namespace {

// Smaller values are not worth a copy; more candidates than this are not worth their time.
constexpr Bytes least_share_of_peak = 2000;
constexpr std::size_t most_candidates = 1500;

// -1: it is used nowhere but where it is made.
Position after_longest_pause(const std::vector<Presence>& all) {
  Position end = -1;
  Position longest = 0;
  for (std::size_t i = 0; i + 1 < all.size(); ++i) {
    const Position pause = all[i + 1].at - all[i].at;
    if (pause <= longest) continue;
    longest = pause;
    end = all[i + 1].at;
  }
  return end;
}

}  // namespace

std::optional<OffloadRates> offload_rates(const StepTrace& trace) {
  if (const auto& rates = trace.device.transfer_rates) {
    if (rates->pinned_to_host <= 0 || rates->pinned_to_device <= 0) return std::nullopt;
    return OffloadRates{.to_host = rates->pinned_to_host, .to_device = rates->pinned_to_device};
  }
  const std::optional<double> rate = trace.device.copy_bytes_per_second;
  if (!rate || *rate <= 0) return std::nullopt;
  return OffloadRates{.to_host = *rate, .to_device = *rate};
}

OffloadChoice::OffloadChoice(const StepGraph& graph, const Retention& everything,
                             OffloadRates rates, double stretch)
    : graph_(graph), rates_(rates) {
  double time = 0;
  for (Position p = 0; p <= graph.end(); ++p) {
    begin_.push_back(time);
    levels_.push_back(everything.level(p));
    time += static_cast<double>(graph.at(p).nanoseconds) * 1e-9 * (1 + stretch);
  }
  find_candidates(everything);
}

Position OffloadChoice::first_from(double time) const {
  return static_cast<Position>(std::lower_bound(begin_.begin(), begin_.end(), time) -
                               begin_.begin());
}

Position OffloadChoice::last_until(double time) const {
  return static_cast<Position>(std::upper_bound(begin_.begin(), begin_.end(), time) -
                               begin_.begin()) -
         1;
}

// What was made from it may be made again right before its own next use: then the value had better
// be there.
Position OffloadChoice::needed_again(const Retention& everything, ValueId v, Position after,
                                     Position next) const {
  Position first = next;
  for (const Presence& use : everything.presences(v)) {
    if (use.at > after) break;
    for (const ValueId made : graph_.at(use.at).creates) {
      if (made == v) continue;
      const Position again = after_longest_pause(everything.presences(made));
      // Others only serve what comes soon after them.
      if (again - after > (next - after) / 2) first = std::min(first, again);
    }
  }
  return first;
}

void OffloadChoice::find_candidates(const Retention& everything) {
  const Bytes least =
      std::max<Bytes>((everything.peak() - graph_.static_bytes()) / least_share_of_peak, 1);
  for (ValueId v = 0; v < graph_.value_count(); ++v) {
    const Bytes bytes = graph_.value(v).bytes;
    if (graph_.is_static(v) || bytes < least) continue;
    const std::vector<Presence>& all = everything.presences(v);
    std::size_t longest = 0;
    double pause = 0;
    for (std::size_t i = 0; i + 1 < all.size(); ++i) {
      const double time = begin_[at(all[i + 1].at)] - begin_[at(all[i].at)];
      if (time <= pause) continue;
      pause = time;
      longest = i;
    }
    Candidate candidate{
        .offload = {.value = v},
        .to_host_seconds = static_cast<double>(bytes) / rates_.to_host,
        .to_device_seconds = static_cast<double>(bytes) / rates_.to_device,
    };
    if (pause < candidate.to_host_seconds + candidate.to_device_seconds) continue;
    // What outlives the step, such as gradients, stays where its maker put it.
    if (all[longest + 1].at == graph_.end()) continue;
    candidate.offload.after = all[longest].at;
    candidate.offload.back = needed_again(everything, v, all[longest].at, all[longest + 1].at);
    auto again = static_cast<double>(graph_.at(graph_.value(v).creator).nanoseconds);
    for (const Position writer : graph_.value(v).writers) {
      again += static_cast<double>(graph_.at(writer).nanoseconds);
    }
    candidate.price = again / static_cast<double>(bytes);
    candidates_.push_back(candidate);
  }
  if (candidates_.size() > most_candidates) {
    std::stable_sort(
        candidates_.begin(), candidates_.end(), [&](const Candidate& a, const Candidate& b) {
          return graph_.value(a.offload.value).bytes > graph_.value(b.offload.value).bytes;
        });
    candidates_.resize(most_candidates);
  }
  std::stable_sort(
      candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return std::pair(-a.price, a.offload.value) < std::pair(-b.price, b.offload.value);
      });
}

// To the host as soon as may be, in the order of their last uses; back as late as may be, in the
// order in which they are wanted.
bool OffloadChoice::time_copies(std::vector<Candidate>& chosen) const {
  std::sort(chosen.begin(), chosen.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(a.offload.after, a.offload.value) <
           std::pair(b.offload.after, b.offload.value);
  });
  double time = 0;
  for (Candidate& candidate : chosen) {
    time = std::max(time, begin_[at(candidate.offload.after) + 1]) + candidate.to_host_seconds;
    candidate.offload.freed = first_from(time);
    if (candidate.offload.freed > graph_.end()) return false;
  }
  std::vector<Candidate*> wanted;
  for (Candidate& candidate : chosen) wanted.push_back(&candidate);
  std::sort(wanted.begin(), wanted.end(), [](const Candidate* a, const Candidate* b) {
    return std::pair(b->offload.back, b->offload.value) <
           std::pair(a->offload.back, a->offload.value);
  });
  time = begin_.back();
  for (Candidate* candidate : wanted) {
    Offload& offload = candidate->offload;
    time = std::min(time, begin_[at(offload.back)]) - candidate->to_device_seconds;
    if (time < 0) return false;
    offload.fetched = last_until(time);
    if (offload.fetched <= offload.freed) return false;
  }
  return true;
}

std::vector<Offload> OffloadChoice::choose(Bytes budget, Bytes host_budget) const {
  const auto positions = at(graph_.end()) + 1;
  LevelTree levels(positions);
  LevelTree host(positions);
  for (Position p = 0; p <= graph_.end(); ++p) levels.add(p, p, levels_[at(p)]);
  std::vector<Candidate> chosen;
  for (const Candidate& candidate : candidates_) {
    if (levels.highest() <= budget) break;
    const Offload& offload = candidate.offload;
    const Bytes bytes = graph_.value(offload.value).bytes;
    const bool is_of_use = offload.after + 1 < offload.back &&
                           levels.highest_in(offload.after + 1, offload.back - 1) > budget;
    if (!is_of_use) continue;
    if (host.highest_in(offload.after + 1, offload.back) + bytes > host_budget) continue;
    std::vector<Candidate> more = chosen;
    more.push_back(candidate);
    if (!time_copies(more)) continue;
    for (const Candidate& old : chosen) {
      const Bytes held = graph_.value(old.offload.value).bytes;
      levels.add(old.offload.freed, old.offload.fetched - 1, held);
    }
    chosen = std::move(more);
    for (const Candidate& now : chosen) {
      const Bytes held = graph_.value(now.offload.value).bytes;
      levels.add(now.offload.freed, now.offload.fetched - 1, -held);
    }
    host.add(offload.after + 1, offload.back, bytes);
  }
  std::vector<Offload> offloads;
  for (const Candidate& candidate : chosen) offloads.push_back(candidate.offload);
  return offloads;
}

}  // namespace tidemark::tide
