// Writes a schedule step by step: numbers instances and keeps their table. Private to the builders
// of schedules: the core and the planners.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

class ScheduleWriter {
 public:
  // Names the static storages, in the order of their ids.
  explicit ScheduleWriter(const StepTrace& trace)
      : next_number_(trace.storages.size(), 0),
        static_of_(trace.storages.size(), unnamed_instance) {
    const std::vector<bool> is_static = static_storages(trace);
    for (std::size_t s = 0; s < trace.storages.size(); ++s) {
      if (!is_static[s]) continue;
      static_of_[s] =
          name(make_id<StorageId>(s), trace.storages[s].bytes, Place::device, Term::static_memory);
    }
    schedule_.initial_instances = static_cast<std::int32_t>(schedule_.instances.size());
  }

  [[nodiscard]] InstanceId static_instance(StorageId id) const { return static_of_[index(id)]; }
  [[nodiscard]] const Instance& instance(InstanceId id) const {
    return schedule_.instances[index(id)];
  }

  // A new instance; it lives once a Run creates it or allocate() makes it.
  InstanceId name(StorageId storage, Bytes bytes, Place place, Term term) {
    const std::int32_t number = storage == no_storage ? 0 : next_number_[index(storage)]++;
    schedule_.instances.push_back(
        {.storage = storage, .number = number, .bytes = bytes, .place = place, .term = term});
    return make_id<InstanceId>(schedule_.instances.size() - 1);
  }

  InstanceId allocate(StorageId storage, Bytes bytes, Place place, Term term, Cause cause) {
    const InstanceId made = name(storage, bytes, place, term);
    add(Allocate{made}, cause);
    return made;
  }

  StepId copy_whole(InstanceId from, InstanceId to, Queue queue, Cause cause) {
    return add(Copy{.from = from,
                    .to = to,
                    .from_offset = 0,
                    .to_offset = 0,
                    .bytes = instance(from).bytes,
                    .queue = queue},
               cause);
  }

  void free(InstanceId id, Cause cause) { add(Free{id}, cause); }

  StepId add(decltype(Step::action) action, Cause cause) {
    schedule_.steps.push_back({.action = std::move(action), .cause = cause});
    return make_id<StepId>(schedule_.steps.size() - 1);
  }

  [[nodiscard]] Schedule take() { return std::move(schedule_); }

 private:
  Schedule schedule_;
  std::vector<std::int32_t> next_number_;
  std::vector<InstanceId> static_of_;
};

}  // namespace tidemark
