// Numbers the storages of a step while it runs. Private to the recorder.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <unordered_map>
#include <vector>

#include "backend.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

class StorageTable {
 public:
  explicit StorageTable(Backend& backend) : backend_(backend) {}

  // The number of a tensor's storage. An unknown one was made by nobody who was seen (a Python
  // number that became a tensor): it is a constant, and its bytes are kept.
  StorageId number_of(const at::Tensor& tensor);
  [[nodiscard]] std::optional<StorageId> find(const at::Tensor& tensor) const;
  // A storage that is new from here on.
  StorageId add(const at::Tensor& tensor, Role role);
  // The block at this address is about to be freed: the address names another storage from now on.
  std::optional<StorageId> forget(const void* data);

  [[nodiscard]] std::vector<Storage>& storages() { return storages_; }
  [[nodiscard]] Storage& operator[](StorageId id) { return storages_[index(id)]; }

 private:
  // Without bytes there is no address. The weak reference keeps another storage from taking the
  // place of the one that is known.
  struct EmptyStorage {
    c10::weak_intrusive_ptr<c10::StorageImpl> implementation;
    StorageId id;
  };

  Backend& backend_;
  std::vector<Storage> storages_;
  std::unordered_map<const void*, StorageId> by_address_;
  std::unordered_map<const c10::StorageImpl*, EmptyStorage> empty_;
};

}  // namespace tidemark
