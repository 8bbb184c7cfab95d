# Compiler settings that every target shares, as one interface library.
option(LAYERFS_WERROR "Treat warnings as errors (CI)" OFF)
option(LAYERFS_BENCHMARKS "Build bench/" ON)
option(LAYERFS_FUZZERS "Build the libFuzzer targets (needs clang)" OFF)
set(LAYERFS_SANITIZE "" CACHE STRING "Sanitizers: empty, 'address,undefined' or 'thread'")

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
find_program(LAYERFS_CCACHE ccache)
if(LAYERFS_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LAYERFS_CCACHE})
endif()

add_library(layerfs_options INTERFACE)
target_include_directories(layerfs_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(layerfs_options INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64 LAYERFS_VERSION="${PROJECT_VERSION}")
# Designated initialisers are there to leave fields to their defaults.
target_compile_options(layerfs_options INTERFACE -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)
# Two of g++ 12's warnings are wrong at -O2 and under sanitizers (GCC bugs 105329, 80635): std::string's
# operator+ is no overlapping memcpy, and an engaged std::optional is not uninitialised.
target_compile_options(layerfs_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
# clang sees std::stable_sort of libstdc++ 12 use what C++17 deprecates.
target_compile_options(layerfs_options INTERFACE $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>)
if(LAYERFS_WERROR)
  target_compile_options(layerfs_options INTERFACE -Werror)
endif()
if(LAYERFS_SANITIZE)
  target_compile_options(layerfs_options INTERFACE -fsanitize=${LAYERFS_SANITIZE} -fno-omit-frame-pointer)
  if(LAYERFS_SANITIZE MATCHES "undefined")
    target_compile_options(layerfs_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
  target_link_options(layerfs_options INTERFACE -fsanitize=${LAYERFS_SANITIZE})
endif()
