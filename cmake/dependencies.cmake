# Third-party libraries: Debian's, except LibTorch, which is the PyPI wheel in the project's .venv.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(MPI REQUIRED COMPONENTS C)
pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavformat libavcodec libswscale libavutil)
pkg_check_modules(SIMDJSON REQUIRED IMPORTED_TARGET simdjson)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

add_library(hdf5_c INTERFACE)
target_include_directories(hdf5_c SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(hdf5_c INTERFACE ${HDF5_C_LIBRARIES})

# LibTorch. No find_package(Torch): it insists on a CUDA toolkit even where only the CPU half is linked.
file(GLOB torch_roots ${CMAKE_SOURCE_DIR}/.venv/lib/python3.*/site-packages/torch)
if(torch_roots)
  list(GET torch_roots 0 torch_root_found)
  set(PENDULUM_TORCH ${torch_root_found} CACHE PATH "LibTorch: the folder that holds include/ and lib/")
endif()
if(NOT EXISTS "${PENDULUM_TORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch is not at '${PENDULUM_TORCH}': run scripts/setup first")
endif()
add_library(torch_headers INTERFACE)
target_include_directories(torch_headers SYSTEM INTERFACE
  ${PENDULUM_TORCH}/include ${PENDULUM_TORCH}/include/torch/csrc/api/include)
add_library(torch INTERFACE)
target_link_libraries(torch INTERFACE torch_headers
  ${PENDULUM_TORCH}/lib/libtorch_cpu.so ${PENDULUM_TORCH}/lib/libc10.so
  ${PENDULUM_TORCH}/lib/libgomp.so.1)  # whose threads are LibTorch's (ops/parallel.cpp)
if(PENDULUM_CUDA)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  # Nothing of ours names a symbol of libtorch_cuda: without --no-as-needed the linker drops it and the GPU with it.
  target_link_libraries(torch INTERFACE
    -Wl,--no-as-needed ${PENDULUM_TORCH}/lib/libtorch_cuda.so ${PENDULUM_TORCH}/lib/libc10_cuda.so
    -Wl,--as-needed CUDA::cudart)
  target_compile_definitions(torch INTERFACE PENDULUM_CUDA)

  # NCCL and cuDNN: those that LibTorch's GPU half runs on, wheels beside it; cudnn-frontend's headers are a wheel too.
  get_filename_component(site_packages ${PENDULUM_TORCH}/.. ABSOLUTE)
  add_library(nccl INTERFACE)
  target_include_directories(nccl SYSTEM INTERFACE ${site_packages}/nvidia/nccl/include)
  target_link_libraries(nccl INTERFACE ${site_packages}/nvidia/nccl/lib/libnccl.so.2)
  set(PENDULUM_CUDNN ${site_packages}/nvidia/cudnn CACHE PATH "cuDNN: the folder that holds include/ and lib/")
  set(PENDULUM_CUDNN_FRONTEND ${site_packages}/include CACHE PATH "The folder that holds cudnn_frontend.h")
endif()

# fmt, header-only, the copy that LibTorch carries: two versions of fmt in one program break the one-definition rule.
add_library(fmt_headers INTERFACE)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fmt_include)
file(CREATE_LINK ${PENDULUM_TORCH}/include/fmt ${CMAKE_BINARY_DIR}/fmt_include/fmt SYMBOLIC)
target_include_directories(fmt_headers SYSTEM INTERFACE ${CMAKE_BINARY_DIR}/fmt_include)
target_compile_definitions(fmt_headers INTERFACE FMT_HEADER_ONLY=1)
