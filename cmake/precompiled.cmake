# Headers that nearly every file reads, compiled once. A file still includes what it uses: lint and
# builds with -DSLUICE_PCH=OFF see no others.
option(SLUICE_PCH "Compile the standard headers once for all files" ON)

# sluice_precompiled(NAME HEADERS ...): a library for sluice_precompile() below. What uses it needs the
# same code generation, so there is one each for libraries of position-independent code and others.
function(sluice_precompiled name)
  cmake_parse_arguments(arg "" "" "HEADERS;LIBRARIES" ${ARGN})
  add_library(${name} OBJECT ${CMAKE_SOURCE_DIR}/cmake/precompiled.cc)
  target_link_libraries(${name} PRIVATE sluice_warnings ${arg_LIBRARIES})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
endfunction()

set(sluice_standard_headers
  <algorithm> <array> <atomic> <chrono> <condition_variable> <cstdint> <cstring> <deque> <exception>
  <filesystem> <fstream> <functional> <limits> <map> <memory> <mutex> <optional> <set> <span>
  <sstream> <string> <string_view> <thread> <unordered_map> <utility> <variant> <vector>)
if(SLUICE_PCH)
  if(CCACHE)  # which by itself passes over everything that reads a precompiled header
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  endif()
  # GCC 12 forgets that precompiled headers are the system's, and reports what it hides elsewhere.
  target_compile_options(sluice_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds;-Wno-restrict;-Wno-stringop-overflow;-Wno-stringop-overread>)
  sluice_precompiled(sluice_pch HEADERS ${sluice_standard_headers} <fmt/format.h>
                     LIBRARIES fmt::fmt)
  sluice_precompiled(sluice_pch_pic HEADERS ${sluice_standard_headers} <fmt/format.h>
                     LIBRARIES fmt::fmt)
  set_target_properties(sluice_pch_pic PROPERTIES POSITION_INDEPENDENT_CODE ON)
endif()

# sluice_precompile(TARGET [PRECOMPILED]): of the program's parts, which link fmt.
function(sluice_precompile target)
  if(NOT SLUICE_PCH)
    return()
  endif()
  set(precompiled sluice_pch)
  get_target_property(independent ${target} POSITION_INDEPENDENT_CODE)
  if(independent)
    set(precompiled sluice_pch_pic)
  endif()
  if(ARGC GREATER 1)
    set(precompiled ${ARGV1})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${precompiled})
endfunction()
