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

# GCC instantiates what ATen's and nlohmann's headers ask for anew in every file, 7 s of work before it comes to the file's
# own lines. So a folder's files are compiled some at a time, and names in anonymous namespaces are one of a kind within a
# folder. OFF, one by one, is quicker where one file is worked on for long.
option(PENDULUM_UNITY "Compile the files of a folder together" ON)
function(compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${PENDULUM_UNITY} UNITY_BUILD_BATCH_SIZE 6)
  # Of a type in an anonymous namespace GCC warns wherever the file is not the one that it was given.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endfunction()

# precompiled_header(name [LINKS lib ...] HEADERS <a.h> ...): for targets that REUSE_FROM it and are compiled alike. Reading
# ATen's headers costs 10 s a file without one.
function(precompiled_header name)
  cmake_parse_arguments(ARG "" "" "LINKS;HEADERS" ${ARGN})
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/${name}.cpp CONTENT "// Carries the precompiled header.\n")
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE torch pendulum_flags ${ARG_LINKS} nlohmann_json::nlohmann_json)
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()
# All that touches tensors.
precompiled_header(torch_pch HEADERS <ATen/ATen.h> <fmt/format.h> <nlohmann/json.hpp>)

# pendulum_library(folder [TORCH] SOURCES a.cpp ... LINKS other ...): the static library of one folder of src/.
function(pendulum_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINKS" ${ARGN})
  if(NOT ARG_SOURCES)
    add_library(pd_${name} INTERFACE)
    return()
  endif()
  add_library(pd_${name} STATIC ${ARG_SOURCES})
  compile_together(pd_${name})
  target_link_libraries(pd_${name} PUBLIC pendulum_flags ${ARG_LINKS})
  if(ARG_TORCH)
    target_link_libraries(pd_${name} PUBLIC torch nlohmann_json::nlohmann_json)
    target_precompile_headers(pd_${name} REUSE_FROM torch_pch)
  endif()
endfunction()
