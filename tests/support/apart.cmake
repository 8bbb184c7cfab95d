# tests_apart(RESULT SCRIPT [WHO]): the tests in a script that are marked @apart (for WHO), because not every machine can run
# them: the script runs each only when it is asked for by name, and exits with 77 where it can't be run here. As tests of
# ctest of their own their skips stand in its summary by name.
function(tests_apart result script)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
  file(READ ${script} text)
  string(REGEX MATCHALL "@apart[^\n]*\ndef [a-z0-9_]+" marked "${text}")
  set(names)
  foreach(mark IN LISTS marked)
    string(REGEX MATCH "^@apart[^#\n]*" for "${mark}")
    if(NOT ARGN OR for MATCHES "\"${ARGN}\"")
      string(REGEX REPLACE ".*\ndef " "" name "${mark}")
      list(APPEND names ${name})
    endif()
  endforeach()
  set(${result} ${names} PARENT_SCOPE)
endfunction()
