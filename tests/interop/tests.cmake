# What layerfs writes, read by its peers. As root; each skips, with its reason, where a tool is missing.
foreach(image busybox layered portable)
  add_test(NAME interop/roundtrip/${image}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/interop/roundtrip_test $<TARGET_FILE:layerfs> ${image})
  list(APPEND interop_tests interop/roundtrip/${image})
endforeach()
foreach(image busybox layered)
  add_test(NAME interop/mount/${image}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/interop/mount_test $<TARGET_FILE:layerfs> ${image})
  list(APPEND interop_tests interop/mount/${image})
endforeach()
foreach(image busybox portable)
  add_test(NAME interop/commit/${image}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/interop/commit_test $<TARGET_FILE:layerfs> ${image})
  list(APPEND interop_tests interop/commit/${image})
endforeach()
foreach(engine podman podman-user buildah containerd)
  add_test(NAME interop/engines/${engine}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/interop/engines_test $<TARGET_FILE:layerfs> ${engine})
  list(APPEND interop_tests interop/engines/${engine})
endforeach()
foreach(mode plain tls htpasswd)
  add_test(NAME interop/registry/${mode}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/interop/registry_test $<TARGET_FILE:layerfs> ${mode})
  list(APPEND interop_tests interop/registry/${mode})
endforeach()
set_tests_properties(${interop_tests} PROPERTIES LABELS interop TIMEOUT 300 SKIP_RETURN_CODE 77)
