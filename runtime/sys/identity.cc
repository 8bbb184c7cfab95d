// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/identity.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

namespace layerfs::sys {

Result<void> become_namespace_root(bool drop_groups) {
  // Groups first: setgroups(2) needs CAP_SETGID, and so does setresgid(2) before setresuid(2).
  if (drop_groups && ::setgroups(0, nullptr) != 0) return system_error(errno, "drop groups");
  if ((::getgid() != 0 || ::getegid() != 0) && ::setresgid(0, 0, 0) != 0)
    return system_error(errno, "set group id");
  if ((::getuid() != 0 || ::geteuid() != 0) && ::setresuid(0, 0, 0) != 0)
    return system_error(errno, "set user id");
  return {};
}

Result<void> join_new_keyring(const std::string& name) {
  if (::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.c_str(), 0, 0, 0) >= 0) return {};
  if (errno == ENOSYS || errno == EPERM || errno == EDQUOT) return {};
  return system_error(errno, "make session keyring", name);
}

void reset_signals() {
  struct sigaction usual{};
  usual.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &usual, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Result<void> execute_fd(int program_fd, const char* name, const char* argument) {
  const char* arguments[] = {name, argument, nullptr};
  const char* environment[] = {nullptr};
  ::syscall(SYS_execveat, program_fd, "", arguments, environment, AT_EMPTY_PATH);
  return system_error(errno, "run", name);
}

Result<void> execute_fd_again(int program_fd, const std::vector<std::string>& arguments) {
  std::vector<const char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const auto& argument : arguments) pointers.push_back(argument.c_str());
  pointers.push_back(nullptr);
  ::syscall(SYS_execveat, program_fd, "", pointers.data(), environ, AT_EMPTY_PATH);
  return system_error(errno, "run the sealed copy of the own program");
}

Result<void> keep_on_exec(int fd) {
  if (::fcntl(fd, F_SETFD, 0) != 0) return system_error(errno, "keep descriptor");
  return {};
}

Result<void> move_fd(int from, int to) {
  if (::dup3(from, to, 0) < 0 && !(errno == EINVAL && from == to))
    return system_error(errno, "duplicate descriptor");
  return {};
}

Result<void> check_executable(const char* path) {
  struct stat st;
  if (::stat(path, &st) != 0) return system_error(errno, "", path);
  if (S_ISDIR(st.st_mode)) return system_error(EACCES, "", path);
  if (::faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0) return system_error(errno, "", path);
  return {};
}

}  // namespace layerfs::sys
