# Run at install time (tools/CMakeLists.txt): NAME.debug of each program, beside it.
foreach(program IN LISTS layerfs_programs)
  set(symbols ${build_dir}/${program}.debug)
  execute_process(COMMAND ${objcopy} --only-keep-debug ${build_dir}/${program} ${symbols} COMMAND_ERROR_IS_FATAL ANY)
  file(INSTALL ${symbols} DESTINATION ${CMAKE_INSTALL_PREFIX}/${relative_destination})
endforeach()
