#include "backend.hpp"

namespace tidemark {

c10::Storage allocate_storage(c10::Device device, Bytes bytes) {
  c10::Allocator* allocator = c10::GetAllocator(device.type());
  const auto size = static_cast<std::size_t>(bytes);
  return {c10::Storage::use_byte_size_t(), size, allocator->allocate(size), allocator,
          /*resizable=*/false};
}

std::vector<std::uint8_t> bytes_of(Backend& backend, const c10::Storage& storage) {
  std::vector<std::uint8_t> bytes(storage.nbytes());
  if (bytes.empty()) return bytes;
  if (storage.device().is_cpu()) {
    const auto* data = static_cast<const std::uint8_t*>(storage.data());
    bytes.assign(data, data + bytes.size());
  } else {
    backend.download(bytes.data(), storage.data(), bytes.size());
  }
  return bytes;
}

}  // namespace tidemark
