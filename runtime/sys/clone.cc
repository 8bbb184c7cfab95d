// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/clone.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "fs/base/process_stat.h"
#include "fs/base/sys_file.h"

namespace layerfs::sys {

Result<pid_t> clone_process(std::uint64_t flags) {
  clone_args args{};
  args.flags = flags;
  // With CLONE_PARENT the child signals our parent, and the kernel refuses a signal of its own (clone(2)).
  args.exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0 && (errno == ENOSYS || errno == EPERM) && (flags & CSIGNAL) == 0) {
    // Old kernels, and sandboxes that hide clone3: the flags that containers need fit the old call.
    int signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
    pid = ::syscall(SYS_clone, static_cast<unsigned long>(flags) | static_cast<unsigned long>(signal),
                    nullptr, nullptr, nullptr, nullptr);
  }
  if (pid < 0) return system_error(errno, "make a process in new namespaces");
  return static_cast<pid_t>(pid);
}

Result<void> join_namespace(int fd, std::uint64_t flag) {
  if (::setns(fd, static_cast<int>(flag)) != 0) return system_error(errno, "join namespace");
  return {};
}

Result<Fd> open_pidfd(pid_t pid) {
  long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return system_error(errno, "open process", std::to_string(pid));
  return Fd(static_cast<int>(fd));
}

Result<void> send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0)
    return system_error(errno, "send signal");
  return {};
}

Result<void> set_parent_death_signal(int signal) {
  if (::prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0) return system_error(errno, "set parent death signal");
  return {};
}

Result<void> set_undumpable() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return system_error(errno, "set undumpable");
  return {};
}

Result<std::optional<std::uint64_t>> find_start_time(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 65536);
  if (!text) {
    if (text.error().code == ENOENT || text.error().code == ESRCH) return std::nullopt;
    return std::unexpected(text.error());
  }
  // A zombie counts as gone: nothing of it runs.
  const std::string_view state = find_stat_field(*text, StatField::kState);
  if (state == "Z" || state == "X") return std::nullopt;
  const std::string_view start = find_stat_field(*text, StatField::kStartTime);
  std::uint64_t value = 0;
  if (std::from_chars(start.data(), start.data() + start.size(), value).ec != std::errc{})
    return corrupt_error("read process state", std::to_string(pid), "has no start time");
  return value;
}

Result<void> close_from(int first, CloseMode mode) {
  constexpr unsigned kCloseOnExec = 4;  // CLOSE_RANGE_CLOEXEC (close_range(2))
  unsigned flags = mode == CloseMode::kOnExec ? kCloseOnExec : 0;
  if (::syscall(SYS_close_range, static_cast<unsigned>(first), ~0U, flags) == 0) return {};
  int code = errno;
  if (code != ENOSYS && code != EINVAL) return system_error(code, "close descriptors");
  LAYERFS_ASSIGN(auto names, list_dir("/proc/self/fd"));
  for (const auto& name : names) {
    int fd = std::atoi(name.c_str());
    if (fd < first) continue;
    if (mode == CloseMode::kOnExec)
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    else
      Fd close_it(fd);
  }
  return {};
}

Result<std::uint64_t> effective_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) return system_error(errno, "read capabilities");
  return data[0].effective | std::uint64_t{data[1].effective} << 32;
}

unsigned last_capability() {
  auto text = read_file("/proc/sys/kernel/cap_last_cap", 64);
  unsigned value = 40;
  if (text) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

}  // namespace layerfs::sys
