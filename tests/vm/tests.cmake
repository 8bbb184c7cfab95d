# Scripts of tests under a kernel of their own (../support/boot_vm): cgroup v2 alone, every capability, a disk. One boot a
# test; what is the matter where none comes up is printed, and is a failure.
function(vm_test name)
  add_test(NAME vm/${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/../support/boot_vm -t 280 ${ARGN})
  set_tests_properties(vm/${name} PROPERTIES LABELS vm TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()
vm_test(limits-root ${CMAKE_CURRENT_LIST_DIR}/limits $<TARGET_FILE:layerfs> root)
vm_test(limits-user ${CMAKE_CURRENT_LIST_DIR}/delegated ${CMAKE_CURRENT_LIST_DIR}/limits $<TARGET_FILE:layerfs> user)
