// SPDX-License-Identifier: Apache-2.0
// Starting helper programs (newuidmap, hooks) and waiting for them. Any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::sys {

struct ChildCommand {
  std::string path;  ///< absolute, or searched in PATH where it has no slash
  std::vector<std::string> args;
  std::optional<std::vector<std::string>> env;  ///< nullopt: this process's
  int stdin_fd = -1;                            ///< -1: /dev/null
  int stdout_fd = -1;                           ///< -1: standard error, so that its words reach the user
  int stderr_fd = -1;                           ///< -1: this process's
};

/// Starts a program, which has no descriptors but the three. Errors: ENOENT, EACCES... of the exec.
Result<pid_t> spawn(const ChildCommand& command);
/// Waits for a child and returns its wait status (wait(2)).
Result<int> wait_child(pid_t pid);
/// "exit status 3", "killed by signal 9".
std::string describe_wait_status(int status);
/// The shell's number: the exit status, or 128 + the signal.
int exit_code(int wait_status);

}  // namespace layerfs::sys
