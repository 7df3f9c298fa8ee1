#include "execution_memory.hpp"

#include <ATen/Context.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace tidemark {

StaticMemory::StaticMemory(Backend& backend, const StepTrace& trace, FillStorage fill)
    : backend_(backend),
      trace_(trace),
      fill_(std::move(fill)),
      is_static_(static_storages(trace)),
      is_written_(trace.storages.size(), false) {
  for (const Op& op : trace.ops) {
    for (const StorageId id : op.writes) is_written_[index(id)] = true;
  }
  allocate();
}

void StaticMemory::renew() {
  storages_.clear();
  written_.clear();
  bytes_ = 0;
  allocate();
}

void StaticMemory::allocate() {
  backend_.release_library_workspaces();
  backend_.empty_caches();
  at::manual_seed(static_cast<std::uint64_t>(trace_.provenance.seed));
  storages_.resize(trace_.storages.size());
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    if (!is_static_[s]) continue;
    const auto id = make_id<StorageId>(s);
    const Storage& storage = trace_.storages[s];
    if (is_on_device(trace_, id)) {
      storages_[s] = backend_.allocate_static(storage.name, storage.bytes);
      bytes_ += storage.bytes;
    } else {
      storages_[s] = allocate_storage(c10::Device(c10::kCPU), storage.bytes);
    }
    if (storage.bytes > 0) keep_value(id);
  }
}

void StaticMemory::keep_value(StorageId id) {
  const Storage& storage = trace_.storages[index(id)];
  c10::Storage& memory = storages_[index(id)];
  if (memory.device().is_cpu()) {
    auto* data = static_cast<std::uint8_t*>(memory.mutable_data());
    fill_(id, data);
    if (is_written_[index(id)]) {
      written_.push_back({id, std::vector<std::uint8_t>(data, data + storage.bytes)});
    }
    return;
  }
  // Without kernels only the values that steer something matter.
  if (!backend_.computes() && !storage.value) return;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(storage.bytes));
  fill_(id, bytes.data());
  backend_.upload(memory.mutable_data(), bytes.data(), bytes.size());
  if (is_written_[index(id)]) written_.push_back({id, std::move(bytes)});
}

void StaticMemory::restore() {
  for (const Initial& initial : written_) {
    c10::Storage& memory = storages_[index(initial.id)];
    if (memory.device().is_cpu()) {
      std::memcpy(memory.mutable_data(), initial.bytes.data(), initial.bytes.size());
    } else {
      backend_.upload(memory.mutable_data(), initial.bytes.data(), initial.bytes.size());
    }
  }
}

ExecutionMemory::ExecutionMemory(Backend& backend, const StepTrace& trace, const Schedule& schedule,
                                 const StaticMemory& statics)
    : backend_(backend),
      trace_(trace),
      schedule_(schedule),
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
    device_[index(id)] = allocate_storage(backend_.device(), instance.bytes);
  } else {
    elsewhere_[index(id)] = backend_.allocate_host(instance.bytes, instance.place);
  }
  count(id, 1);
}

void ExecutionMemory::adopt(InstanceId id, c10::Storage storage) {
  device_[index(id)] = std::move(storage);
  made_[index(schedule_.instances[index(id)].storage)].push_back(id);
  is_alive_[index(id)] = 1;
  count(id, 1);
}

void ExecutionMemory::fill(InstanceId id) {
  const Instance& instance = schedule_.instances[index(id)];
  const bool is_whole = instance.place == Place::device && instance.storage != no_storage &&
                        instance.bytes == trace_.storages[index(instance.storage)].bytes;
  if (!is_whole) return;
  made_[index(instance.storage)].push_back(id);
  is_alive_[index(id)] = 1;
}

void ExecutionMemory::free(InstanceId id) {
  device_[index(id)] = c10::Storage();
  elsewhere_[index(id)].clear();
  is_alive_[index(id)] = 0;
  count(id, -1);
}

std::uint8_t* ExecutionMemory::data(InstanceId id) {
  if (schedule_.instances[index(id)].place != Place::device) {
    return static_cast<std::uint8_t*>(elsewhere_[index(id)].get());
  }
  return static_cast<std::uint8_t*>(device_[index(id)].mutable_data());
}

InstanceId ExecutionMemory::final_instance(StorageId id) const {
  const std::vector<InstanceId>& made = made_[index(id)];
  const auto alive = std::find_if(made.rbegin(), made.rend(), [&](InstanceId made_id) {
    return is_alive_[index(made_id)] != 0;
  });
  return alive == made.rend() ? unnamed_instance : *alive;
}

void ExecutionMemory::count(InstanceId id, Bytes sign) {
  const Instance& instance = schedule_.instances[index(id)];
  if (instance.storage != no_storage && !is_on_device(trace_, instance.storage)) return;
  if (instance.place == Place::device) {
    terms_[static_cast<std::size_t>(instance.term)] += sign * instance.bytes;
  } else if (instance.place != Place::peer) {
    host_bytes_ += sign * instance.bytes;
  }
}

}  // namespace tidemark
