# The checks of the sources, and the sanitized runs, as tests: one ctest run says all. They are left out
# of the sanitizers' own builds, which the last two start.
if(NOT LAYERFS_SANITIZE)
  foreach(check format includes)
    add_test(NAME check/${check} COMMAND ${CMAKE_SOURCE_DIR}/tools/check-${check})
    set_tests_properties(check/${check} PROPERTIES LABELS check TIMEOUT 120)
  endforeach()
  add_test(NAME check/tidy COMMAND ${CMAKE_SOURCE_DIR}/tools/check-tidy --build ${CMAKE_BINARY_DIR})
  set_tests_properties(check/tidy PROPERTIES LABELS check TIMEOUT 1800 RUN_SERIAL TRUE)
  foreach(preset asan tsan)
    add_test(NAME sanitizer/${preset} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/support/run_sanitized ${preset})
    set_tests_properties(sanitizer/${preset} PROPERTIES LABELS sanitizer TIMEOUT 2400 RUN_SERIAL TRUE)
  endforeach()
endif()
