# Run at install time (tools/CMakeLists.txt): each program without debug symbols, and with the name of the file that has
# them. The file itself is made in the build directory, for the name goes with its checksum.
foreach(program IN LISTS layerfs_programs)
  message(STATUS "Installing: $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${relative_destination}/${program}")
  set(installed $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${relative_destination}/${program})
  set(symbols ${build_dir}/${program}.debug)
  file(MAKE_DIRECTORY $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${relative_destination})
  execute_process(COMMAND ${objcopy} --only-keep-debug ${build_dir}/${program} ${symbols} COMMAND_ERROR_IS_FATAL ANY)
  # Beside the target and then over it: a program that runs is not changed under itself.
  execute_process(COMMAND ${objcopy} --strip-all --add-gnu-debuglink=${symbols} ${build_dir}/${program} ${installed}.new
    COMMAND_ERROR_IS_FATAL ANY)
  file(CHMOD ${installed}.new PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
    WORLD_EXECUTE)
  file(RENAME ${installed}.new ${installed})
endforeach()
