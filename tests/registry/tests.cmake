# `layerfs pull` against registries on loopback that misbehave; real ones are interop's.
if(NOT LAYERFS_SANITIZE)
  add_test(NAME registry/pull_faults COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/registry/pull_faults $<TARGET_FILE:layerfs>)
  set_tests_properties(registry/pull_faults PROPERTIES LABELS interop TIMEOUT 900)
endif()
