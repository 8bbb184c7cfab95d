# `layerfs pull`, `push` and `login` against registries on loopback that misbehave; real ones are interop's.
if(NOT LAYERFS_SANITIZE)
  foreach(name pull_faults push_faults login_test)
    add_test(NAME registry/${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/registry/${name} $<TARGET_FILE:layerfs>)
    set_tests_properties(registry/${name} PROPERTIES LABELS interop TIMEOUT 900)
  endforeach()
endif()
