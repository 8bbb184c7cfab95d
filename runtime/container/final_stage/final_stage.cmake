# The final stage: a free-standing program, embedded into the runtime's library as bytes. No libc, no sanitizer.
add_executable(layerfs_final_stage ${CMAKE_SOURCE_DIR}/runtime/container/final_stage/main.cc)
target_include_directories(layerfs_final_stage PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_definitions(layerfs_final_stage PRIVATE _GNU_SOURCE)
target_compile_options(layerfs_final_stage PRIVATE -Wall -Wextra -Os -g0 -ffreestanding -fno-exceptions -fno-rtti
  -fno-stack-protector -fno-builtin -fno-asynchronous-unwind-tables $<$<CXX_COMPILER_ID:GNU>:-fno-tree-loop-distribute-patterns> -fno-pie -fcf-protection=none
  -fno-sanitize=all -U_FORTIFY_SOURCE)
target_link_options(layerfs_final_stage PRIVATE -static -no-pie -nostdlib -nostartfiles -Wl,--build-id=none -Wl,-z,noexecstack -s)
set(final_stage_dir ${CMAKE_BINARY_DIR}/final_stage)
set_target_properties(layerfs_final_stage PROPERTIES POSITION_INDEPENDENT_CODE OFF
  RUNTIME_OUTPUT_DIRECTORY ${final_stage_dir})

set_source_files_properties(${CMAKE_SOURCE_DIR}/runtime/container/final_stage_image.cc PROPERTIES
  COMPILE_DEFINITIONS "LAYERFS_FINAL_STAGE=\"${final_stage_dir}/layerfs_final_stage\""
  OBJECT_DEPENDS ${final_stage_dir}/layerfs_final_stage)
add_dependencies(layerfs_runtime_container layerfs_final_stage)
