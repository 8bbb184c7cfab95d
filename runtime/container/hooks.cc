// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <span>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {

namespace {

/// Waits for `pid`, at most `timeout` seconds. True where it ended.
Result<bool> wait_within(pid_t pid, int timeout) {
  LAYERFS_ASSIGN(Fd process, sys::open_pidfd(pid));
  pollfd poll_process{process.get(), POLLIN, 0};
  return ::poll(&poll_process, 1, timeout * 1000) > 0;
}

Result<void> run_hook(const spec::Hook& hook, const std::string& state) {
  // A file and not a pipe: a hook that does not read its input cannot hold the runtime up.
  LAYERFS_ASSIGN(Fd input, make_sealed_file("layerfs-hook-state", state));
  LAYERFS_ASSIGN(Fd from_start, open_file("/proc/self/fd/" + std::to_string(input.get()), O_RDONLY));
  sys::ChildCommand command;
  command.path = hook.path;
  command.args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  command.env = hook.env;
  command.stdin_fd = from_start.get();
  LAYERFS_ASSIGN(pid_t pid, sys::spawn(command));
  if (hook.timeout) {
    LAYERFS_ASSIGN(bool ended, wait_within(pid, *hook.timeout));
    if (!ended) {
      ::kill(pid, SIGKILL);
      LAYERFS_TRY(sys::wait_child(pid));
      return system_error(ETIMEDOUT, "");
    }
  }
  LAYERFS_ASSIGN(int status, sys::wait_child(pid));
  if (status != 0) return unsupported_error("", "", sys::describe_wait_status(status));
  return {};
}

}  // namespace

Result<void> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view kind,
                       const std::string& state) {
  for (const auto& hook : hooks)
    if (auto ran = run_hook(hook, state); !ran)
      return with_context(ran.error(), std::string(kind) + " hook", hook.path);
  return {};
}

void run_poststop_hooks(const std::vector<spec::Hook>& hooks, const std::string& state) {
  for (const auto& hook : hooks)
    if (auto ran = run_hook(hook, state); !ran)
      log_warning("{}", with_context(ran.error(), "poststop hook", hook.path).error().message());
}

}  // namespace layerfs::container
