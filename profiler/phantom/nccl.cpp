// NCCL (libnccl.so.2) among ranks that never meet: communicators know their size and rank, and
// every collective is done at once. A rank sees its own values where it would see others': enough
// for sizes and pickled objects that all ranks share.
#include <nccl.h>

#include <array>
#include <cstring>
#include <random>

#include "machine_interface.hpp"
#include "unanswered.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

struct ncclComm {
  int size;
  int rank;
  int device;
};

namespace {

std::size_t bytes_of(std::size_t count, ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
      return count;
    case ncclFloat16:
    case ncclBfloat16:
      return count * 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return count * 4;
    default:
      return count * 8;
  }
}

ncclResult_t make_communicator(ncclComm_t* communicator, int size, int rank) {
  *communicator =
      new ncclComm{.size = size, .rank = rank, .device = tidemark_phantom_current_device()};
  return ncclSuccess;
}

char* slot(void* buffer, int index, std::size_t bytes) {
  return static_cast<char*>(buffer) + static_cast<std::size_t>(index) * bytes;
}

const char* slot(const void* buffer, int index, std::size_t bytes) {
  return static_cast<const char*>(buffer) + static_cast<std::size_t>(index) * bytes;
}

ncclResult_t copy(void* destination, const void* source, std::size_t bytes) {
  if (destination != source) tidemark_phantom_copy(destination, source, bytes);
  return ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  for (char& byte : id->internal) byte = static_cast<char>(random());
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : "not supported on the phantom GPU";
}

const char* ncclGetLastError(ncclComm_t communicator) { return ""; }

// ---- Communicators ------------------------------------------------------------------------------

ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int size, ncclUniqueId id, int rank) {
  return make_communicator(communicator, size, rank);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return make_communicator(communicator, size, rank);
}

ncclResult_t ncclCommInitRankScalable(ncclComm_t* communicator, int size, int rank, int id_count,
                                      ncclUniqueId* ids, ncclConfig_t* config) {
  return make_communicator(communicator, size, rank);
}

ncclResult_t ncclCommInitAll(ncclComm_t* communicators, int size, const int* devices) {
  for (int rank = 0; rank < size; ++rank) {
    make_communicator(&communicators[rank], size, rank);
    communicators[rank]->device = devices == nullptr ? rank : devices[rank];
  }
  return ncclSuccess;
}

// Who else chose this colour only the ranks together know.
ncclResult_t ncclCommSplit(ncclComm_t communicator, int color, int key, ncclComm_t* result,
                           ncclConfig_t* config) {
  static tidemark::phantom::Unanswered call("ncclCommSplit, counted as if no rank left");
  call.modelled();
  *result = nullptr;
  if (color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
  return make_communicator(result, communicator->size, communicator->rank);
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  delete communicator;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t communicator) { return ncclCommDestroy(communicator); }
ncclResult_t ncclCommFinalize(ncclComm_t communicator) { return ncclSuccess; }

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* error) {
  *error = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t communicator, int* size) {
  *size = communicator->size;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t communicator, int* rank) {
  *rank = communicator->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t communicator, int* device) {
  *device = communicator->device;
  return ncclSuccess;
}

ncclResult_t ncclCommRegister(const ncclComm_t communicator, void* buffer, size_t size,
                              void** handle) {
  *handle = buffer;
  return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t communicator, void* handle) { return ncclSuccess; }

ncclResult_t ncclMemAlloc(void** pointer, size_t size) {
  *pointer = tidemark_phantom_allocate(size);
  return *pointer != nullptr ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void* pointer) {
  tidemark_phantom_free(pointer);
  return ncclSuccess;
}

// ---- Collectives --------------------------------------------------------------------------------

ncclResult_t ncclAllReduce(const void* source, void* destination, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream) {
  return copy(destination, source, bytes_of(count, type));
}

ncclResult_t ncclReduce(const void* source, void* destination, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t communicator,
                        cudaStream_t stream) {
  if (communicator->rank != root) return ncclSuccess;
  return copy(destination, source, bytes_of(count, type));
}

ncclResult_t ncclBroadcast(const void* source, void* destination, size_t count, ncclDataType_t type,
                           int root, ncclComm_t communicator, cudaStream_t stream) {
  if (communicator->rank != root) return ncclSuccess;
  return copy(destination, source, bytes_of(count, type));
}

ncclResult_t ncclBcast(void* buffer, size_t count, ncclDataType_t type, int root,
                       ncclComm_t communicator, cudaStream_t stream) {
  return ncclSuccess;
}

ncclResult_t ncclAllGather(const void* source, void* destination, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  for (int rank = 0; rank < communicator->size; ++rank) {
    copy(slot(destination, rank, bytes), source, bytes);
  }
  return ncclSuccess;
}

ncclResult_t ncclReduceScatter(const void* source, void* destination, size_t count,
                               ncclDataType_t type, ncclRedOp_t operation, ncclComm_t communicator,
                               cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return copy(destination, slot(source, communicator->rank, bytes), bytes);
}

ncclResult_t ncclAlltoAll(const void* source, void* destination, size_t count, ncclDataType_t type,
                          ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(count, type);
  return copy(destination, source, bytes * static_cast<std::size_t>(communicator->size));
}

ncclResult_t ncclSend(const void* source, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return ncclSuccess;
}

ncclResult_t ncclRecv(void* destination, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return ncclSuccess;
}

ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* operation, void* scalar, ncclDataType_t type,
                                      ncclScalarResidence_t residence, ncclComm_t communicator) {
  *operation = ncclSum;
  return ncclSuccess;
}

ncclResult_t ncclRedOpDestroy(ncclRedOp_t operation, ncclComm_t communicator) {
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() { return ncclSuccess; }
ncclResult_t ncclGroupEnd() { return ncclSuccess; }

}  // extern "C"
