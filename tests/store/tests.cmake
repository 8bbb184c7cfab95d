# The store's commands as a user types them. The sanitizers' builds have the tests' programs only.
if(NOT LAYERFS_SANITIZE)
  add_test(NAME store/commands
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/store/commands_test.sh $<TARGET_FILE:layerfs> ${CMAKE_CURRENT_SOURCE_DIR}/support)
  set_tests_properties(store/commands PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
endif()
