#include "storage_table.hpp"

#include <string>

namespace tidemark {

namespace {

c10::weak_intrusive_ptr<c10::StorageImpl> weak_reference(const at::Tensor& tensor) {
  c10::StorageImpl* implementation = tensor.storage().unsafeGetStorageImpl();
  return c10::weak_intrusive_ptr<c10::StorageImpl>(
      c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(implementation));
}

}  // namespace

std::optional<StorageId> StorageTable::find(const at::Tensor& tensor) const {
  const c10::Storage& storage = tensor.storage();
  if (storage.data() != nullptr) {
    const auto found = by_address_.find(storage.data());
    return found == by_address_.end() ? std::nullopt : std::optional(found->second);
  }
  const auto found = empty_.find(storage.unsafeGetStorageImpl());
  return found == empty_.end() ? std::nullopt : std::optional(found->second.id);
}

StorageId StorageTable::number_of(const at::Tensor& tensor) {
  if (const std::optional<StorageId> known = find(tensor)) return *known;
  const StorageId id = add(tensor, Role::constant);
  (*this)[id].value = bytes_of(backend_, tensor.storage());
  return id;
}

StorageId StorageTable::add(const at::Tensor& tensor, Role role) {
  const c10::Storage& storage = tensor.storage();
  const auto id = make_id<StorageId>(storages_.size());
  const bool is_elsewhere = storage.device().type() != backend_.device().type();
  storages_.push_back({.bytes = static_cast<Bytes>(storage.nbytes()),
                       .role = role,
                       .name = {},
                       .device = is_elsewhere ? storage.device().str() : std::string(),
                       .freed_after = {},
                       .value = {}});
  if (storage.data() != nullptr) {
    by_address_[storage.data()] = id;
  } else {
    empty_.insert_or_assign(storage.unsafeGetStorageImpl(),
                            EmptyStorage{weak_reference(tensor), id});
  }
  return id;
}

std::optional<StorageId> StorageTable::forget(const void* data) {
  const auto found = by_address_.find(data);
  if (found == by_address_.end()) return std::nullopt;
  const StorageId id = found->second;
  by_address_.erase(found);
  return id;
}

}  // namespace tidemark
