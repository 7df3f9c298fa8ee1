// Code that a program brings along (Triton's kernels and what torch.compile makes of them,
// PyTorch's own run-time compiled kernels) or that cuDNN compiles when it plans: loaded as far as
// somebody asks what it needs, never run.
#include <cuda.h>
#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "machine_interface.hpp"

// Parameters are named for their meaning even where a phantom ignores them.
#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace {

// What the compiler wrote into the code: of its largest kernel, Triton compiles each by itself.
struct Code {
  int registers = 32;   // where the code is no machine code yet (PTX)
  int stack_bytes = 0;  // of a thread
};

template <typename Value>
Value read(const char* from) {
  Value value{};
  std::memcpy(&value, from, sizeof value);
  return value;
}

// NVIDIA's attributes of a kernel: {format, attribute, size}, then {symbol, value} for these.
void read_attributes(const char* data, std::size_t bytes, Code& code) {
  constexpr std::uint8_t has_size = 4;
  constexpr std::uint8_t frame_size = 0x11;
  constexpr std::uint8_t register_count = 0x2f;
  for (std::size_t at = 0; at + 4 <= bytes;) {
    const auto format = read<std::uint8_t>(data + at);
    const auto attribute = read<std::uint8_t>(data + at + 1);
    const std::size_t size = format == has_size ? read<std::uint16_t>(data + at + 2) : 0;
    if (size == 8 && at + 12 <= bytes) {
      const auto value = read<std::int32_t>(data + at + 8);
      if (attribute == frame_size) code.stack_bytes = std::max(code.stack_bytes, value);
      if (attribute == register_count) code.registers = value;
    }
    at += 4 + size;
  }
}

Code read_code(const char* image) {
  Code code;
  if (image == nullptr || std::memcmp(image, ELFMAG, SELFMAG) != 0) return code;
  const auto header = read<Elf64_Ehdr>(image);
  const auto section = [&](std::size_t index) {
    return read<Elf64_Shdr>(image + header.e_shoff + index * sizeof(Elf64_Shdr));
  };
  const char* names = image + section(header.e_shstrndx).sh_offset;
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr entry = section(i);
    if (std::string_view(names + entry.sh_name) != ".nv.info") continue;
    read_attributes(image + entry.sh_offset, entry.sh_size, code);
  }
  return code;
}

// A module and its functions are the same object, which lives on.
template <typename Handle>
void set_code(Handle* handle, const char* image) {
  void* object = new Code(read_code(image));
  std::memcpy(handle, &object, sizeof object);
}

template <typename To, typename From>
void pass_on(To* to, From from) {
  std::memcpy(to, &from, sizeof from);  // NOLINT: the pointer itself
}

}  // namespace

extern "C" {

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jit_options,
                           void** jit_values, unsigned jit_count, CUlibraryOption* options,
                           void** values, unsigned count) {
  set_code(library, static_cast<const char*>(code));
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  pass_on(kernel, library);
  return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) { return CUDA_SUCCESS; }

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  set_code(module, static_cast<const char*>(image));
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count,
                            CUjit_option* options, void** values) {
  return cuModuleLoadData(module, image);
}

CUresult cuModuleLoad(CUmodule* module, const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  const std::string image{std::istreambuf_iterator<char>(file), {}};
  return cuModuleLoadData(module, image.c_str());
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  pass_on(function, module);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  const Code* code = nullptr;
  pass_on(&code, function);
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = code->registers;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = code->stack_bytes;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = 1024;
      return CUDA_SUCCESS;
    // Triton asks for the static part, and has none: all its shared memory is asked for at launch.
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      *value = 0;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                        CUstream stream, void** parameters, void** extra) {
  return static_cast<CUresult>(tidemark_phantom_launch());
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) {
  return static_cast<CUresult>(tidemark_phantom_launch());
}

// A description of a tensor that only kernels read.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* address, const cuuint64_t* sizes, const cuuint64_t* strides,
                                const cuuint32_t* box_sizes, const cuuint32_t* element_strides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  std::memset(map, 0, sizeof *map);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function,
                                                     int block_size, size_t shared_bytes) {
  *blocks = tidemark_phantom_occupancy(block_size, shared_bytes);
  return CUDA_SUCCESS;
}

}  // extern "C"
