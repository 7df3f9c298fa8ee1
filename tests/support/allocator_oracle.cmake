# A program that runs PyTorch's own caching allocator: libc10_cuda alone, on a CUDA runtime of
# addresses (tests/profiler/address_only_runtime.cpp) whose functions come before the real ones.
function(tidemark_allocator_oracle name)
  cmake_path(GET TIDEMARK_TORCH_DIR PARENT_PATH packages)
  set(cuda_dir ${packages}/nvidia/cu13)
  add_executable(${name} ${ARGN} ${PROJECT_SOURCE_DIR}/tests/profiler/address_only_runtime.cpp)
  tidemark_target(${name})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/profiler)
  target_include_directories(${name} SYSTEM PRIVATE
    ${TIDEMARK_TORCH_DIR}/include ${cuda_dir}/include)
  target_link_libraries(${name} PRIVATE tidemark_core
    ${TIDEMARK_TORCH_DIR}/lib/libc10_cuda.so ${TIDEMARK_TORCH_DIR}/lib/libc10.so
    ${cuda_dir}/lib/libcudart.so.13)
  set_target_properties(${name} PROPERTIES
    ENABLE_EXPORTS ON BUILD_RPATH "${TIDEMARK_TORCH_DIR}/lib;${cuda_dir}/lib")
endfunction()
