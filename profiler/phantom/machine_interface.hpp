// What the stand-ins for the driver and for NCCL, libraries of their own, ask of the preloaded
// library's machine. Statuses: 0 is success.
#pragma once

#include <cstddef>

#include "process_record.hpp"

extern "C" {

int tidemark_phantom_device_count();
int tidemark_phantom_current_device();
int tidemark_phantom_device_attribute(int* value, int attribute, int device);
int tidemark_phantom_occupancy(int block_size, std::size_t shared_bytes);
std::size_t tidemark_phantom_segment_bytes();
int tidemark_phantom_launch();
// The device that a pointer points into; -1: it is host memory.
int tidemark_phantom_device_of(const void* pointer);

// 1: there was room on the device, and it is taken.
int tidemark_phantom_take(int device, std::size_t bytes);
void tidemark_phantom_give_back(int device, std::size_t bytes);
void* tidemark_phantom_reserve(std::size_t bytes);
void tidemark_phantom_release(void* start, std::size_t bytes);
void* tidemark_phantom_allocate(std::size_t bytes);
void tidemark_phantom_free(void* pointer);

// The hook is told of every read of a scalar, and whether a copy had written it.
void tidemark_phantom_on_read(void (*hook)(std::size_t bytes, int is_written));
// Makes a condition true, as a kernel would have.
void tidemark_phantom_assume_true(void* condition);
void tidemark_phantom_copy(void* destination, const void* source, std::size_t bytes);
void tidemark_phantom_forget(void* start, std::size_t bytes);

}  // extern "C"
