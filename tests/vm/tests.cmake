# Scripts of tests under a kernel of their own (../support/boot_vm): cgroup v2 alone, every capability, a disk. One boot a
# test; what is the matter where none comes up is printed, and is a failure. On two idle processors all of it takes two to
# three minutes, by qemu five to ten; the bounds are those of busy ones. PATH is that of an ordinary user, whose tools/setup
# asks boot_vm as well.
function(vm_test name)
  add_test(NAME vm/${name} COMMAND ${CMAKE_COMMAND} -E env PATH=/usr/local/bin:/usr/bin:/bin
    ${CMAKE_CURRENT_LIST_DIR}/../support/boot_vm -t 900 ${ARGN})
  set_tests_properties(vm/${name} PROPERTIES LABELS vm TIMEOUT 930 SKIP_RETURN_CODE 77)
endfunction()
vm_test(cgroup2-root ${CMAKE_CURRENT_LIST_DIR}/cgroup2 $<TARGET_FILE:layerfs> root)
# What a delegated group is for; the rest is the same code for everybody.
vm_test(cgroup2-user ${CMAKE_CURRENT_LIST_DIR}/delegated ${CMAKE_CURRENT_LIST_DIR}/cgroup2 $<TARGET_FILE:layerfs> user
  test_memory_limit_kills_and_says_so test_what_files_take_in_memory_is_counted_and_bounded
  test_cpu_limit_holds test_pids_limit_stops_a_fork_bomb test_statistics_and_updates)
vm_test(apparmor -l apparmor ${CMAKE_CURRENT_LIST_DIR}/apparmor $<TARGET_FILE:layerfs> root)
vm_test(selinux -l selinux ${CMAKE_CURRENT_LIST_DIR}/selinux $<TARGET_FILE:layerfs> root)
vm_test(keeper ${CMAKE_CURRENT_LIST_DIR}/keeper $<TARGET_FILE:layerfs>)
# Where systemd is the first process (and Podman its client), and makes the groups; a user's own manager does it by the same calls.
vm_test(systemd-root -s ${CMAKE_CURRENT_LIST_DIR}/systemd $<TARGET_FILE:layerfs> root)
vm_test(systemd-user -s ${CMAKE_CURRENT_LIST_DIR}/systemd $<TARGET_FILE:layerfs> user
  test_a_scope_and_its_limits test_the_usual_place test_no_manager_is_an_error_that_says_so)
