# Label crash: processes that are killed at random instants, and what they leave. A nightly run sets
# LAYERFS_CRASH_ROUNDS to more.
add_executable(delta_kill_test ${CMAKE_CURRENT_SOURCE_DIR}/crash/delta_kill_test.cc)
target_link_libraries(delta_kill_test PRIVATE layerfs_upper layerfs_store GTest::gmock_main GTest::gtest)
add_test(NAME crash/delta_kill COMMAND delta_kill_test)
set_tests_properties(crash/delta_kill PROPERTIES LABELS crash TIMEOUT 600)
add_test(NAME crash/import_kill
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/crash/import_kill.sh $<TARGET_FILE:layerfs> ${CMAKE_CURRENT_SOURCE_DIR}/support)
set_tests_properties(crash/import_kill PROPERTIES LABELS crash TIMEOUT 600 SKIP_RETURN_CODE 77)
