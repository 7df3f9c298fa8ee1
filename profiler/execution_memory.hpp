// The instances of a schedule as real memory, each in its place, and what they come to.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "backend.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Writes the value that a static storage has before the step.
using FillStorage = std::function<void(StorageId, std::uint8_t* bytes)>;

// The static storages of a step, in the order of the trace: counted device memory that lives as
// long as this.
class StaticMemory {
 public:
  StaticMemory(Backend& backend, const StepTrace& trace, FillStorage fill);

  [[nodiscard]] const c10::Storage& storage(StorageId id) const { return storages_[index(id)]; }
  // On the device.
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  // Gives all of it back and allocates it anew, in the same order and with the same values.
  void renew();
  // Puts the storages that the step writes back to their initial values.
  void restore();

 private:
  struct Initial {
    StorageId id;
    std::vector<std::uint8_t> bytes;  // outside counted memory
  };
  void allocate();
  void keep_value(StorageId id);

  Backend& backend_;
  const StepTrace& trace_;
  FillStorage fill_;
  std::vector<bool> is_static_;
  std::vector<bool> is_written_;
  std::vector<c10::Storage> storages_;  // by storage; null for created ones
  std::vector<Initial> written_;
  Bytes bytes_ = 0;
};

class ExecutionMemory {
 public:
  ExecutionMemory(Backend& backend, const StepTrace& trace, const Schedule& schedule,
                  const StaticMemory& statics);

  void allocate(InstanceId id);
  // What an operator made; an empty storage for storages without bytes.
  void adopt(InstanceId id, c10::Storage storage);
  // A copy or a gather has filled an allocated instance: it may stand for its storage from now on.
  void fill(InstanceId id);
  void free(InstanceId id);
  [[nodiscard]] const c10::Storage& storage(InstanceId id) const { return device_[index(id)]; }
  [[nodiscard]] std::uint8_t* data(InstanceId id);
  [[nodiscard]] Place place(InstanceId id) const { return schedule_.instances[index(id)].place; }

  // The instance on the device that stands for a storage at the end of the step: the last one that
  // an operator made or a copy filled, or the static one. unnamed_instance: none is left.
  [[nodiscard]] InstanceId final_instance(StorageId id) const;
  [[nodiscard]] Bytes host_bytes() const { return host_bytes_; }
  [[nodiscard]] const std::array<Bytes, term_count>& terms() const { return terms_; }

 private:
  void count(InstanceId id, Bytes sign);

  Backend& backend_;
  const StepTrace& trace_;
  const Schedule& schedule_;
  std::vector<c10::Storage> device_;           // by instance
  std::vector<c10::DataPtr> elsewhere_;        // by instance: host and peer
  std::vector<std::vector<InstanceId>> made_;  // by storage: static, operators' and filled ones
  std::vector<char> is_alive_;
  Bytes host_bytes_ = 0;
  std::array<Bytes, term_count> terms_{};
};

}  // namespace tidemark
