# Scripts of tests under a kernel of their own (../support/boot_vm): cgroup v2 alone, every capability, a disk. One boot a
# test; what is the matter where none comes up is printed, and is a failure.
function(vm_test name)
  add_test(NAME vm/${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/../support/boot_vm -t 500 ${ARGN})
  set_tests_properties(vm/${name} PROPERTIES LABELS vm TIMEOUT 530 SKIP_RETURN_CODE 77)
endfunction()
vm_test(cgroup2-root ${CMAKE_CURRENT_LIST_DIR}/cgroup2 $<TARGET_FILE:layerfs> root)
vm_test(cgroup2-user ${CMAKE_CURRENT_LIST_DIR}/delegated ${CMAKE_CURRENT_LIST_DIR}/cgroup2 $<TARGET_FILE:layerfs> user)
vm_test(keeper ${CMAKE_CURRENT_LIST_DIR}/keeper $<TARGET_FILE:layerfs>)
