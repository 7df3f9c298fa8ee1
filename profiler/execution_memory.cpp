#include "execution_memory.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "counting_allocator.hpp"

namespace tidemark {

namespace {

c10::Storage device_storage(Bytes bytes) {
  CountingAllocator& allocator = CountingAllocator::install();
  const auto size = static_cast<std::size_t>(bytes);
  return {c10::Storage::use_byte_size_t(), size, allocator.allocate(size), &allocator,
          /*resizable=*/false};
}

}  // namespace

StaticMemory::StaticMemory(const StepTrace& trace, const FillStorage& fill)
    : storages_(trace.storages.size()) {
  const std::vector<bool> is_static = static_storages(trace);
  std::vector<char> is_written(trace.storages.size(), 0);
  for (const Op& op : trace.ops) {
    for (const StorageId id : op.writes) is_written[index(id)] = 1;
  }
  for (std::size_t s = 0; s < trace.storages.size(); ++s) {
    if (!is_static[s]) continue;
    const auto id = make_id<StorageId>(s);
    const Bytes size = trace.storages[s].bytes;
    storages_[s] = device_storage(size);
    bytes_ += size;
    if (size == 0) continue;
    auto* data = static_cast<std::uint8_t*>(storages_[s].mutable_data());
    fill(id, data);
    if (is_written[s] != 0) written_.push_back({id, std::vector<std::uint8_t>(data, data + size)});
  }
}

void StaticMemory::restore() {
  for (const Initial& initial : written_) {
    std::memcpy(storages_[index(initial.id)].mutable_data(), initial.bytes.data(),
                initial.bytes.size());
  }
}

ExecutionMemory::ExecutionMemory(const StepTrace& trace, const Schedule& schedule,
                                 const StaticMemory& statics)
    : schedule_(schedule),
      device_(schedule.instances.size()),
      elsewhere_(schedule.instances.size()),
      made_(trace.storages.size()),
      is_alive_(schedule.instances.size(), 0) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(schedule.initial_instances); ++i) {
    adopt(make_id<InstanceId>(i), statics.storage(schedule.instances[i].storage));
  }
}

void ExecutionMemory::allocate(InstanceId id) {
  const Instance& instance = schedule_.instances[index(id)];
  if (instance.place == Place::device) {
    device_[index(id)] = device_storage(instance.bytes);
  } else {
    elsewhere_[index(id)].reset(new std::uint8_t[static_cast<std::size_t>(instance.bytes)]);
  }
  count(id, 1);
}

void ExecutionMemory::adopt(InstanceId id, c10::Storage storage) {
  device_[index(id)] = std::move(storage);
  made_[index(schedule_.instances[index(id)].storage)].push_back(id);
  is_alive_[index(id)] = 1;
  count(id, 1);
}

void ExecutionMemory::free(InstanceId id) {
  device_[index(id)] = c10::Storage();
  elsewhere_[index(id)].reset();
  is_alive_[index(id)] = 0;
  count(id, -1);
}

std::uint8_t* ExecutionMemory::data(InstanceId id) {
  if (schedule_.instances[index(id)].place != Place::device) return elsewhere_[index(id)].get();
  return static_cast<std::uint8_t*>(device_[index(id)].mutable_data());
}

InstanceId ExecutionMemory::final_instance(StorageId id) const {
  const std::vector<InstanceId>& made = made_[index(id)];
  const auto alive = std::find_if(made.rbegin(), made.rend(),
                                  [&](InstanceId made_id) { return is_alive_[index(made_id)] != 0; });
  return alive == made.rend() ? unnamed_instance : *alive;
}

void ExecutionMemory::count(InstanceId id, Bytes sign) {
  const Instance& instance = schedule_.instances[index(id)];
  if (instance.place == Place::device) {
    terms_[static_cast<std::size_t>(instance.term)] += sign * instance.bytes;
  } else if (instance.place != Place::peer) {
    host_bytes_ += sign * instance.bytes;
  }
}

}  // namespace tidemark
