# Fuzz targets. Every build replays their corpus (label unit; each once-broken input stays in it); with
# -DLAYERFS_FUZZERS=ON and clang they are libFuzzer programs: fuzz_NAME tests/fuzz/corpus/NAME.

# layerfs_fuzzer(NAME lib...): fuzz_NAME.cc and corpus/NAME.
function(layerfs_fuzzer name)
  add_executable(fuzz_${name} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_${name}.cc)
  target_link_libraries(fuzz_${name} PRIVATE ${ARGN})
  if(LAYERFS_FUZZERS)
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    return()
  endif()
  target_sources(fuzz_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/replay_main.cc)
  add_dependencies(sanitized_tests fuzz_${name})
  set(launcher)
  if(LAYERFS_SANITIZE MATCHES "thread")
    set(launcher setarch -R)
  endif()
  add_test(NAME fuzz/${name} COMMAND ${launcher} $<TARGET_FILE:fuzz_${name}> ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  set_tests_properties(fuzz/${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

layerfs_fuzzer(tar layerfs_image)
layerfs_fuzzer(manifest layerfs_image)
layerfs_fuzzer(store layerfs_store)
layerfs_fuzzer(redo_log layerfs_upper)
layerfs_fuzzer(passwd layerfs_runtime_plan)
layerfs_fuzzer(mount_info layerfs_base)
