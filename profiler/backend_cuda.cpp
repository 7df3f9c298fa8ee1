#include "backend_cuda.hpp"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <utility>

#include "backend_cpu.hpp"
#include "tidemark/allocator.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/report.hpp"
#include "torch_error.hpp"

namespace tidemark {

namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

constexpr const char* blas_workspace = "cuBLAS workspace";
constexpr const char* blas_lt_workspace = "cuBLASLt workspace";

[[noreturn]] void refuse(cudaError_t error, const std::string& what) {
  throw DeviceError(what + " (" + cudaGetErrorName(error) + ")");
}

void check_driver(c10::DeviceIndex index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int version = 0;
    cudaDriverGetVersion(&version);
    const int needed = CUDART_VERSION;
    const auto text = [](int v) {
      return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
    };
    if (version == 0) refuse(error, "this machine has no NVIDIA driver, so there is no GPU in it");
    refuse(error, "the NVIDIA driver serves CUDA " + text(version) + " and this build needs " +
                      text(needed) + "; install a newer driver");
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    const bool is_hidden = visible != nullptr;
    throw DeviceError(is_hidden
                          ? std::string("no GPU is to be seen, since CUDA_VISIBLE_DEVICES is '") +
                                visible + "'; name one that this machine has"
                          : std::string("the NVIDIA driver finds no GPU in this machine"));
  }
  if (error != cudaSuccess) refuse(error, "the NVIDIA driver does not answer");
  if (index >= count) {
    throw UsageError("there is no cuda:" + std::to_string(index) + "; this machine has " +
                     std::to_string(count) + (count == 1 ? " GPU, cuda:0" : " GPUs"));
  }
}

c10::DeviceIndex make_current(c10::DeviceIndex index) {
  check_driver(index);
  try {
    at::globalContext().lazyInitDevice(c10::kCUDA);
    c10::cuda::set_device(index);
    // The context exists from here on.
    C10_CUDA_CHECK(cudaFree(nullptr));
  } catch (const c10::Error& error) {
    throw DeviceError("the GPU cuda:" + std::to_string(index) +
                      " cannot be used: " + first_line(error));
  }
  return index;
}

void add_workspaces(const char* name, at::cuda::WorkspaceMapWithMutex& workspaces,
                    const std::map<const void*, Bytes>& blocks,
                    std::vector<LibraryWorkspace>& all) {
  const std::shared_lock lock(workspaces.mutex);
  std::vector<const void*> addresses;
  for (const auto& [key, data] : workspaces.map) addresses.push_back(data.get());
  std::sort(addresses.begin(), addresses.end());
  int number = 0;
  for (const void* address : addresses) {
    const auto block = blocks.find(address);
    if (block == blocks.end()) continue;
    all.push_back({std::string(name) + " " + std::to_string(number++), address, block->second});
  }
}

// The calling thread's, on its current stream.
const void* make_blas_workspace() {
  const cublasHandle_t handle = at::cuda::getCurrentCUDABlasHandle();
  at::cuda::WorkspaceMapWithMutex& workspaces = at::cuda::cublas_handle_stream_to_workspace();
  const std::shared_lock lock(workspaces.mutex);
  for (const auto& [key, data] : workspaces.map) {
    if (std::get<0>(key) == static_cast<void*>(handle)) return data.get();
  }
  return nullptr;
}

// In some containers and virtual machines CUPTI starts and gives no records, or no times. The
// memory is the driver's own: the caching allocator's state is not ours to change.
bool records_a_kernel(CuptiSession& session, c10::Device device) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, sizeof(float)) != cudaSuccess) {
    cudaGetLastError();
    return true;  // not to be told while the memory is full
  }
  const at::Tensor one = at::from_blob(memory, {1}, at::TensorOptions(at::kFloat).device(device));
  bool is_recorded = false;
  // CUPTI's first records may have no usable times.
  for (int attempt = 0; attempt < 3 && !is_recorded; ++attempt) {
    session.start();
    session.push(1);
    one.fill_(1);
    session.pop();
    C10_CUDA_CHECK(cudaDeviceSynchronize());
    is_recorded = session.stop(1).steps.front().kernels > 0;
  }
  cudaFree(memory);
  return is_recorded;
}

}  // namespace

bool has_cuda() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

CudaBackend::CudaBackend(c10::DeviceIndex index, bool computes)
    : index_(make_current(index)), computes_(computes), meter_(CudaMeter::install(index)) {
  std::size_t free = 0;
  std::size_t total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  free_bytes_ = static_cast<Bytes>(free);
  total_bytes_ = static_cast<Bytes>(total);
  // Whatever the environment says.
  set_allocator_settings("");
}

Bytes CudaBackend::taken_outside() const {
  std::size_t free = 0;
  std::size_t total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  const Bytes reserved = allocator::getDeviceStats(index_).reserved_bytes[0].current;
  return static_cast<Bytes>(total) - static_cast<Bytes>(free) - reserved;
}

void CudaBackend::limit_memory(std::optional<Bytes> bytes) {
  const auto total = static_cast<double>(total_bytes_);
  allocator::setMemoryFraction(bytes ? static_cast<double>(*bytes) / total : 1.0, index_);
}

void CudaBackend::reset_peaks() {
  meter_.reset_peak();
  allocator::resetPeakStats(index_);
}

std::optional<AllocatorReading> CudaBackend::read_allocator() {
  const allocator::DeviceStats stats = allocator::getDeviceStats(index_);
  return AllocatorReading{.allocated_peak = stats.allocated_bytes[0].peak,
                          .reserved_peak = stats.reserved_bytes[0].peak};
}

std::optional<Bytes> CudaBackend::pinned_reserved_bytes() {
  return at::getHostAllocator(at::kCUDA)->get_stats().allocated_bytes.current;
}

void CudaBackend::set_allocator_settings(const std::string& conf) {
  const AllocatorSettings settings = parse_allocator_settings(conf);
  if (!settings.is_native) {
    throw DeviceError(
        "backend:cudaMallocAsync cannot be switched on in a process that has used the GPU; leave "
        "it out");
  }
  c10::CachingAllocator::setAllocatorSettings(format_allocator_settings(settings));
}

void CudaBackend::empty_caches() {
  synchronize();
  allocator::emptyCache();
  at::getHostAllocator(at::kCUDA)->empty_cache();
}

std::vector<LibraryWorkspace> CudaBackend::library_workspaces() {
  std::map<const void*, Bytes> blocks;
  for (const auto& segment : allocator::snapshot().segments) {
    auto address = static_cast<std::size_t>(segment.address);
    for (const auto& block : segment.blocks) {
      if (block.allocated) {
        blocks[reinterpret_cast<const void*>(address)] =  // NOLINT: an address as a number
            static_cast<Bytes>(block.requested_size);
      }
      address += block.size;
    }
  }
  std::vector<LibraryWorkspace> all;
  add_workspaces(blas_workspace, at::cuda::cublas_handle_stream_to_workspace(), blocks, all);
  add_workspaces(blas_lt_workspace, at::cuda::cublaslt_handle_stream_to_workspace(), blocks, all);
  return all;
}

// Of each kind that one thread has: that is the calling one, since autograd's multiplies too.
Bytes CudaBackend::recomputation_workspace_bytes() {
  const std::vector<LibraryWorkspace> all = library_workspaces();
  Bytes bytes = 0;
  for (const std::string_view kind : {blas_workspace, blas_lt_workspace}) {
    Bytes of_kind = 0;
    int threads = 0;
    for (const LibraryWorkspace& workspace : all) {
      if (!workspace.name.starts_with(kind)) continue;
      of_kind += workspace.bytes;
      ++threads;
    }
    if (threads == 1) bytes += of_kind;
  }
  return bytes;
}

void CudaBackend::release_library_workspaces() {
  synchronize();
  at::cuda::clearCublasWorkspaces();
}

c10::Storage CudaBackend::allocate_static(const std::string& name, Bytes bytes) {
  const void* made = nullptr;
  if (name == std::string(blas_workspace) + " 0") made = make_blas_workspace();
  if (name == std::string(blas_lt_workspace) + " 0") made = at::cuda::getCUDABlasLtWorkspace();
  if (made == nullptr) return allocate_storage(device(), bytes);
  for (const LibraryWorkspace& workspace : library_workspaces()) {
    if (workspace.data != made) continue;
    if (workspace.bytes == bytes) {
      return {c10::Storage::use_byte_size_t(), static_cast<std::size_t>(bytes),
              c10::DataPtr(const_cast<void*>(made), device()), nullptr, /*resizable=*/false};
    }
    throw InputError("the trace was recorded with a " + name + " of " + std::to_string(bytes) +
                     " bytes, this process has one of " + std::to_string(workspace.bytes) +
                     "; record the step again");
  }
  throw InternalError("the library's own " + name + " is not among its workspaces");
}

c10::DataPtr CudaBackend::allocate_host(Bytes bytes, Place place) {
  if (place != Place::host_pinned) return allocate_pageable(bytes);
  return at::getHostAllocator(at::kCUDA)->allocate(static_cast<std::size_t>(bytes));
}

std::string CudaBackend::describe_out_of_memory() const {
  const std::optional<CudaOutOfMemory> last = meter_.last_out_of_memory();
  if (!last) return "this GPU has no memory left for the step";
  return "this GPU has no memory left: " + format_bytes(last->asked) + " were asked for and " +
         format_bytes(last->free) + " of " + format_bytes(last->total) + " were free";
}

void CudaBackend::synchronize() { C10_CUDA_CHECK(cudaDeviceSynchronize()); }

void CudaBackend::upload(void* to, const void* from, std::size_t bytes) {
  C10_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

void CudaBackend::download(void* to, const void* from, std::size_t bytes) {
  synchronize();
  C10_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

std::unique_ptr<CopyQueues> CudaBackend::make_queues() {
  const bool is_timed = computes_ && cupti() == nullptr;
  return std::make_unique<CudaQueues>(index_, is_timed ? &side_copies_ : nullptr);
}

std::unique_ptr<StepTimer> CudaBackend::make_timer(std::size_t steps) {
  if (!computes_) return make_no_timer();
  if (CuptiSession* session = cupti()) return make_cupti_timer(*session, steps);
  return make_event_timer(side_copies_, no_cupti_reason_, steps);
}

// Opened once: a second registration would take the first one's records.
CuptiSession* CudaBackend::cupti() {
  if (has_tried_cupti_) return cupti_;
  has_tried_cupti_ = true;
  CuptiSession* session = CuptiSession::open(no_cupti_reason_);
  if (session == nullptr) return nullptr;
  if (records_a_kernel(*session, device())) {
    cupti_ = session;
  } else {
    session->rest();
    no_cupti_reason_ = "CUPTI starts here and then records no kernel";
  }
  return cupti_;
}

GeneratorState CudaBackend::generator_state() const {
  GeneratorState state = GeneratorState::take();
  const at::Generator& generator = at::cuda::detail::getDefaultCUDAGenerator(index_);
  state.philox = PhiloxState{.seed = generator.current_seed(), .offset = generator.get_offset()};
  return state;
}

void CudaBackend::restore(const GeneratorState& state) {
  state.restore();
  if (!state.philox) return;
  at::Generator generator = at::cuda::detail::getDefaultCUDAGenerator(index_);
  generator.set_current_seed(state.philox->seed);
  generator.set_offset(state.philox->offset);
}

}  // namespace tidemark
