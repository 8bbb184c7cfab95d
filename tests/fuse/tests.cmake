# Real mounts, by scripts. Each makes a private directory and takes down what it put up.
foreach(mode root user userns fusermount container)
  add_test(NAME fuse/parity-${mode} COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode ${mode} $<TARGET_FILE:layerfs>
    parity/parity --as ${mode})
  set_tests_properties(fuse/parity-${mode} PROPERTIES LABELS fuse TIMEOUT 900 SKIP_RETURN_CODE 77)
endforeach()
add_test(NAME fuse/parity-ring COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs>
  parity/parity --as root --io-uring)
set_tests_properties(fuse/parity-ring PROPERTIES LABELS fuse TIMEOUT 900 SKIP_RETURN_CODE 77)
add_test(NAME fuse/bounds COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs> bounds)
add_test(NAME fuse/mount-life COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs> mount_life)
foreach(mode root userns fusermount)
  add_test(NAME fuse/keeper-${mode} COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode ${mode} $<TARGET_FILE:layerfs> keeper)
  set_tests_properties(fuse/keeper-${mode} PROPERTIES LABELS fuse TIMEOUT 600 SKIP_RETURN_CODE 77)
  add_test(NAME fuse/corners-${mode} COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode ${mode} $<TARGET_FILE:layerfs> corners)
  set_tests_properties(fuse/corners-${mode} PROPERTIES LABELS fuse TIMEOUT 600 SKIP_RETURN_CODE 77)
  add_test(NAME fuse/smoke-${mode} COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode ${mode} $<TARGET_FILE:layerfs> smoke)
endforeach()
set_tests_properties(fuse/mount-life fuse/smoke-root fuse/smoke-userns fuse/smoke-fusermount
  PROPERTIES LABELS fuse TIMEOUT 600 SKIP_RETURN_CODE 77)
add_test(NAME fuse/resent COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs> resent)
set_tests_properties(fuse/resent PROPERTIES LABELS fuse TIMEOUT 900 SKIP_RETURN_CODE 77)
add_test(NAME fuse/faults COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs> faults)
set_tests_properties(fuse/faults PROPERTIES LABELS fuse TIMEOUT 900 SKIP_RETURN_CODE 77)
add_test(NAME fuse/stress COMMAND ${CMAKE_CURRENT_LIST_DIR}/as_mode root $<TARGET_FILE:layerfs> stress)
set_tests_properties(fuse/stress PROPERTIES LABELS fuse TIMEOUT 600 SKIP_RETURN_CODE 77)
# Its large directories take their time on a busy machine.
set_tests_properties(fuse/bounds PROPERTIES LABELS fuse TIMEOUT 1200 SKIP_RETURN_CODE 77)
