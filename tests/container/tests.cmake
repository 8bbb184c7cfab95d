# Real containers, by scripts: each as root, as an ordinary user with a range of ids, and as one with a single id.
foreach(test run_basic run_habits run_inherited run_signals run_limits run_killed run_escape run_many)
  foreach(who root user single)
    add_test(NAME container/${test}-${who}
      COMMAND ${CMAKE_CURRENT_LIST_DIR}/${test} $<TARGET_FILE:layerfs> ${who})
    set_tests_properties(container/${test}-${who} PROPERTIES LABELS container TIMEOUT 600 SKIP_RETURN_CODE 77)
  endforeach()
endforeach()
# Their containers have one id, and so as root one cgroup.
foreach(test oci_lifecycle oci_ends oci_exec oci_notify oci_callers oci_inherited oci_lenient oci_limits oci_escape oci_host)
  foreach(who root user)
    add_test(NAME container/${test}-${who}
      COMMAND ${CMAKE_CURRENT_LIST_DIR}/${test} $<TARGET_FILE:layerfs> ${who})
    set_tests_properties(container/${test}-${who} PROPERTIES LABELS container TIMEOUT 600 SKIP_RETURN_CODE 77)
  endforeach()
  set_tests_properties(container/${test}-root PROPERTIES RESOURCE_LOCK oci_cgroup)
endforeach()
