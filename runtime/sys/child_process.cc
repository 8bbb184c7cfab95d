// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "fs/base/scope_exit.h"

namespace layerfs::sys {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  list.reserve(strings.size() + 1);
  for (const auto& text : strings) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

}  // namespace

Result<pid_t> spawn(const ChildCommand& command) {
  posix_spawn_file_actions_t actions;
  if (int code = ::posix_spawn_file_actions_init(&actions); code != 0)
    return system_error(code, "spawn", command.path);
  ScopeExit destroy_actions([&] { ::posix_spawn_file_actions_destroy(&actions); });
  posix_spawnattr_t attributes;
  if (int code = ::posix_spawnattr_init(&attributes); code != 0)
    return system_error(code, "spawn", command.path);
  ScopeExit destroy_attributes([&] { ::posix_spawnattr_destroy(&attributes); });

  if (command.stdin_fd >= 0)
    ::posix_spawn_file_actions_adddup2(&actions, command.stdin_fd, STDIN_FILENO);
  else
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, command.stdout_fd >= 0 ? command.stdout_fd : STDERR_FILENO,
                                     STDOUT_FILENO);
  if (command.stderr_fd >= 0) ::posix_spawn_file_actions_adddup2(&actions, command.stderr_fd, STDERR_FILENO);
  // Whatever of the caller's was inherited without close-on-exec: a hook of startContainer is the image's.
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  // The parent may block or ignore signals; a program starts with all of them as usual.
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> args = pointers(command.args);
  std::vector<char*> env;
  if (command.env) env = pointers(*command.env);
  pid_t pid = -1;
  int code = ::posix_spawnp(&pid, command.path.c_str(), &actions, &attributes, args.data(),
                            command.env ? env.data() : environ);
  if (code != 0) return system_error(code, "run", command.path);
  return pid;
}

Result<int> wait_child(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return system_error(errno, "wait for a child process");
  return status;
}

std::string describe_wait_status(int status) {
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return "exit status " + std::to_string(WEXITSTATUS(status));
}

int exit_code(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace layerfs::sys
