// Kernels: what the compiler emits around a launch, and the questions asked before one. Nothing is
// launched.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>

#include "context.hpp"
#include "machine.hpp"
#include "unanswered.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

using tidemark::phantom::Machine;

namespace tidemark::phantom {

namespace {

// The compute capabilities (as 86 for 8.6) for which the registered kernels were compiled. CUB
// chooses its algorithms, and with them its scratch memory, by the one that would run.
std::set<std::int32_t>& compiled_versions() {
  static std::set<std::int32_t>& versions = *new std::set<std::int32_t>;
  return versions;
}

// NVIDIA's fat binaries: a wrapper, a header, then entries of {header, code}, one per version.
struct FatBinaryWrapper {
  std::uint32_t magic;
  std::uint32_t version;
  const char* data;
};
struct FatBinaryHeader {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t header_bytes;
  std::uint64_t bytes;
};
struct FatBinaryEntry {
  std::uint16_t kind;
  std::uint16_t unknown;
  std::uint32_t header_bytes;
  std::uint64_t bytes;
  std::uint32_t compressed_bytes;
  std::uint32_t options;
  std::uint16_t minor_version;
  std::uint16_t major_version;
  std::uint32_t compute_capability;
};

void note_versions(const void* binary) {
  FatBinaryWrapper wrapper{};
  std::memcpy(&wrapper, binary, sizeof wrapper);
  FatBinaryHeader header{};
  if (wrapper.magic != 0x466243b1U || wrapper.data == nullptr) return;
  std::memcpy(&header, wrapper.data, sizeof header);
  if (header.magic != 0xba55ed50U) return;
  const char* position = wrapper.data + header.header_bytes;
  const char* end = position + header.bytes;
  while (position + sizeof(FatBinaryEntry) <= end) {
    FatBinaryEntry entry{};
    std::memcpy(&entry, position, sizeof entry);
    if (entry.header_bytes == 0) return;
    compiled_versions().insert(static_cast<std::int32_t>(entry.compute_capability));
    position += entry.header_bytes + entry.bytes;
  }
}

// The newest version that this card can run: of its own major version, not above its minor one.
std::int32_t kernel_version() {
  const ComputeCapability card = Machine::get().profile().compute_capability;
  const std::int32_t own = card.major * 10 + card.minor;
  std::int32_t best = 0;
  for (const std::int32_t version : compiled_versions()) {
    if (version <= own && version / 10 == card.major) best = std::max(best, version);
  }
  return best == 0 ? own : best;
}

struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  void* stream;
};

thread_local Launch launch;

}  // namespace

}  // namespace tidemark::phantom

extern "C" {

void** __cudaRegisterFatBinary(void* binary) {
  static void* handle = nullptr;
  // The files of one wheel are all compiled for the same cards: the first few tell.
  static int seen = 0;
  if (seen < 8) {
    ++seen;
    tidemark::phantom::note_versions(binary);
  }
  return &handle;
}

void __cudaRegisterFatBinaryEnd(void** handle) {}
void __cudaUnregisterFatBinary(void** handle) {}
char __cudaInitModule(void** handle) { return 1; }

void __cudaRegisterFunction(void** handle, const char* host_function, char* device_function,
                            const char* name, int thread_limit, uint3* thread, uint3* block,
                            dim3* block_dim, dim3* grid_dim, int* warp_size) {}

void __cudaRegisterVar(void** handle, char* host_variable, char* device_address, const char* name,
                       int is_external, size_t size, int is_constant, int is_global) {}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void* stream) {
  tidemark::phantom::launch = {grid, block, shared_bytes, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes,
                                       void* stream) {
  *grid = tidemark::phantom::launch.grid;
  *block = tidemark::phantom::launch.block;
  *shared_bytes = tidemark::phantom::launch.shared_bytes;
  std::memcpy(stream, &tidemark::phantom::launch.stream, sizeof(void*));
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  void* address = const_cast<void*>(host_function);
  std::memcpy(kernel, &address, sizeof address);
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared_bytes, cudaStream_t stream) {
  return tidemark::phantom::launch_kernel();
}

cudaError_t cudaFuncSetAttribute(const void* function, enum cudaFuncAttribute attribute,
                                 int value) {
  return cudaSuccess;
}

// Registers and local memory of a kernel stand in its machine code, which is not read here.
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes* attributes, const void* function) {
  const tidemark::KernelLimits& limits = Machine::get().profile().limits;
  std::memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = tidemark::phantom::kernel_version();
  attributes->ptxVersion = attributes->binaryVersion;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(limits.shared_memory_per_block_optin);
  return cudaSuccess;
}

// As many blocks as threads and shared memory allow; registers are taken to suffice.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void* function, int block_size, size_t shared_bytes, unsigned flags) {
  const tidemark::KernelLimits& limits = Machine::get().profile().limits;
  const auto shared =
      static_cast<tidemark::Bytes>(shared_bytes) + limits.shared_memory_reserved_per_block;
  const int by_threads = limits.threads_per_multiprocessor / std::max(block_size, 1);
  const auto by_shared = static_cast<int>(limits.shared_memory_per_multiprocessor /
                                          std::max<tidemark::Bytes>(shared, 1));
  *blocks = std::min({by_threads, by_shared, limits.blocks_per_multiprocessor});
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int block_size, size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size,
                                                                shared_bytes, 0);
}

}  // extern "C"
