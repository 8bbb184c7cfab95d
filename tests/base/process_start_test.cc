// SPDX-License-Identifier: Apache-2.0
#include "fs/base/process_start.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace layerfs {
namespace {

/// What `body` returns in a process of its own.
int status_of(const std::function<int()>& body) {
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool is_null_device(int fd) {
  struct stat st;
  return ::fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

TEST(ProcessStart, ClosedStreamsBecomeTheNullDeviceAndNoFileOfOurs) {
  for (int closed = 0; closed < 8; ++closed) {
    EXPECT_EQ(status_of([&] {
                int other = ::open("/proc/self/status", O_RDONLY);
                for (int fd = 0; fd < 3; ++fd) ::dup2(other, fd);
                for (int fd = 0; fd < 3; ++fd)
                  if ((closed >> fd & 1) != 0) ::close(fd);
                begin_process();
                for (int fd = 0; fd < 3; ++fd)
                  if (is_null_device(fd) != ((closed >> fd & 1) != 0)) return 1 + fd;
                if (::open("/proc/self/status", O_RDONLY) < 3) return 4;
                // For the programs that it starts too.
                return (::fcntl(1, F_GETFD) & FD_CLOEXEC) != 0 ? 5 : 0;
              }),
              0)
        << closed;
  }
}

TEST(ProcessStart, ClosedStreamsCanBeReadAndWritten) {
  EXPECT_EQ(status_of([] {
              for (int fd = 0; fd < 3; ++fd) ::close(fd);
              begin_process();
              char byte = 0;
              if (::read(0, &byte, 1) != 0) return 1;
              return ::write(1, "x", 1) == 1 && ::write(2, "x", 1) == 1 ? 0 : 2;
            }),
            0);
}

TEST(ProcessStart, ChildrenHaveAStatusWhateverTheCallerIgnores) {
  EXPECT_EQ(status_of([] {
              ::signal(SIGCHLD, SIG_IGN);
              begin_process();
              return status_of([] { return 7; });
            }),
            7);
}

TEST(ProcessStart, BlockedSignalsArriveAndIgnoredOnesStayIgnored) {
  EXPECT_EQ(status_of([] {
              ::signal(SIGHUP, SIG_IGN);
              sigset_t all;
              ::sigfillset(&all);
              ::sigprocmask(SIG_BLOCK, &all, nullptr);
              begin_process();
              ::raise(SIGHUP);
              ::raise(SIGTERM);
              return 0;
            }),
            128 + SIGTERM);
}

TEST(ProcessStart, AnErrorThatCannotBeSaidIsNoOther) {
  EXPECT_EQ(status_of([] {
              int full = ::open("/dev/full", O_WRONLY);
              ::dup2(full, 2);
              write_standard_error("layerfs: this is lost\n");
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace layerfs
