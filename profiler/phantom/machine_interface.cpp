#include "machine_interface.hpp"

#include <cuda_runtime_api.h>

#include "machine.hpp"

using tidemark::phantom::Machine;

extern "C" {

int tidemark_phantom_device_count() { return Machine::get().device_count(); }

int tidemark_phantom_current_device() { return tidemark::phantom::current_device(); }

int tidemark_phantom_device_attribute(int* value, int attribute, int device) {
  return cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device);
}

int tidemark_phantom_occupancy(int block_size, std::size_t shared_bytes) {
  int blocks = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, nullptr, block_size, shared_bytes,
                                                         0);
  return blocks;
}

std::size_t tidemark_phantom_segment_bytes() { return tidemark::phantom::segment_bytes; }

int tidemark_phantom_device_of(const void* pointer) {
  Machine& machine = Machine::get();
  if (machine.place_of(pointer) != tidemark::phantom::Place::device) return -1;
  return machine.device_of(pointer);
}

int tidemark_phantom_take(int device, std::size_t bytes) {
  return Machine::get().take(device, bytes) ? 1 : 0;
}

void tidemark_phantom_give_back(int device, std::size_t bytes) {
  Machine::get().give_back(device, bytes);
}

void* tidemark_phantom_reserve(std::size_t bytes) {
  return Machine::get().reserve_addresses(bytes);
}

void tidemark_phantom_release(void* start, std::size_t bytes) {
  Machine::get().release_addresses(static_cast<char*>(start), bytes);
}

void* tidemark_phantom_allocate(std::size_t bytes) {
  return Machine::get().allocate(tidemark::phantom::current_device(), bytes);
}

void tidemark_phantom_free(void* pointer) { static_cast<void>(Machine::get().free(pointer)); }

void tidemark_phantom_on_read(void (*hook)(std::size_t bytes, int is_written)) {
  Machine::get().set_read_hook(hook);
}

void tidemark_phantom_assume_true(void* condition) { Machine::get().assume_true(condition); }

void tidemark_phantom_copy(void* destination, const void* source, std::size_t bytes) {
  Machine::get().copy(destination, source, bytes);
}

void tidemark_phantom_forget(void* start, std::size_t bytes) {
  Machine::get().forget(start, bytes);
}

}  // extern "C"
