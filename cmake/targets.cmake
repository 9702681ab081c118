# How this project declares its libraries and programs.

# Compilations are kept by ccache where there is one. Precompiled headers ask for the sloppiness named here.
find_program(PENDULUM_CCACHE ccache)
if(PENDULUM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(ccache_launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${PENDULUM_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ccache_launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${ccache_launcher})
endif()

add_library(pendulum_flags INTERFACE)
target_compile_options(pendulum_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow=local -Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # GCC 13 takes every function that is given a temporary and returns a reference for one that returns the temporary; and
  # what the FFmpeg beside it calls deprecated is the only way in the FFmpeg of Debian 12: said, but no error.
  target_compile_options(pendulum_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-dangling-reference -Wno-error=deprecated-declarations>)
endif()
target_include_directories(pendulum_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_link_libraries(pendulum_flags INTERFACE fmt_headers)

# One precompiled header for all that touches tensors: ATen costs 12 s a file without it, 2 s with it.
file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cpp "// Carries the precompiled header.\n")
add_library(torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cpp)
target_link_libraries(torch_pch PRIVATE torch pendulum_flags)
target_precompile_headers(torch_pch PRIVATE
  <ATen/ATen.h> <torch/csrc/autograd/custom_function.h> <torch/csrc/autograd/autograd.h>
  <fmt/format.h> <nlohmann/json.hpp>)
target_link_libraries(torch_pch PRIVATE nlohmann_json::nlohmann_json)

# pendulum_library(folder [TORCH] SOURCES a.cpp ... LINKS other ...): the static library of one folder of src/.
function(pendulum_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINKS" ${ARGN})
  if(NOT ARG_SOURCES)
    add_library(pd_${name} INTERFACE)
    return()
  endif()
  add_library(pd_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(pd_${name} PUBLIC pendulum_flags ${ARG_LINKS})
  if(ARG_TORCH)
    target_link_libraries(pd_${name} PUBLIC torch nlohmann_json::nlohmann_json)
    target_precompile_headers(pd_${name} REUSE_FROM torch_pch)
  endif()
endfunction()
