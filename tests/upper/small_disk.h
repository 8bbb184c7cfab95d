// SPDX-License-Identifier: Apache-2.0
// with_small_disk(): what a test does on a file system of its own that is soon full.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/fd.h"
#include "fs/base/sys_file.h"

namespace layerfs::test {

/// Runs `body` in a child process with a tmpfs of `size` of its own on `mountpoint`; gives what it returns,
/// "skip: ..." where there can't be one.
inline std::string with_small_disk(const std::string& mountpoint, const std::string& size,
                                   const std::function<std::string(const std::string&)>& body) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  const pid_t child = fork();
  if (child == 0) {
    std::string answer;
    const int spaces = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (unshare(spaces) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", mountpoint.c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0)
      answer = std::string("skip: no tmpfs of its own: ") + strerror(errno);
    else
      answer = body(mountpoint);
    static_cast<void>(write_full(write_end.get(), as_bytes(answer)));
    _exit(0);
  }
  write_end.reset();
  std::string answer;
  char buffer[4096];
  for (ssize_t got; (got = read(read_end.get(), buffer, sizeof buffer)) > 0;)
    answer.append(buffer, static_cast<std::size_t>(got));
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return "the child died of signal " + std::to_string(WTERMSIG(status));
  return answer;
}

#define REQUIRE_THAT(condition)                                                \
  do {                                                                         \
    if (!(condition)) return fmt::format("line {}: {}", __LINE__, #condition); \
  } while (false)

}  // namespace layerfs::test
