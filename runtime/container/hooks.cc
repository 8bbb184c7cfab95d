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

/// Its wait status.
Result<int> run_hook(const spec::Hook& hook, const std::string& state, const HookFiles& files) {
  // A file and not a pipe: a hook that does not read its input cannot hold the runtime up.
  LAYERFS_ASSIGN(Fd input, make_sealed_file("layerfs-hook-state", state));
  LAYERFS_ASSIGN(Fd from_start, open_file("/proc/self/fd/" + std::to_string(input.get()), O_RDONLY));
  sys::ChildCommand command;
  command.path = hook.path;
  command.args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  command.env = hook.env;
  command.stdin_fd = from_start.get();
  command.stdout_fd = files.out.get();
  command.stderr_fd = files.err.get();
  LAYERFS_ASSIGN(pid_t pid, sys::spawn(command));
  if (hook.timeout) {
    LAYERFS_ASSIGN(bool ended, wait_within(pid, *hook.timeout));
    if (!ended) {
      ::kill(pid, SIGKILL);
      LAYERFS_TRY(sys::wait_child(pid));
      return system_error(ETIMEDOUT, "");
    }
  }
  return sys::wait_child(pid);
}

Result<Fd> open_output(const std::string& path, const char* annotation) {
  if (path.empty()) return Fd();
  auto fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0700);
  if (!fd) return with_context(fd.error(), "annotation", annotation);
  return fd;
}

}  // namespace

Result<HookFiles> open_hook_files(const spec::Hooks& hooks) {
  HookFiles files;
  LAYERFS_ASSIGN(files.out, open_output(hooks.stdout_path, "run.oci.hooks.stdout"));
  LAYERFS_ASSIGN(files.err, open_output(hooks.stderr_path, "run.oci.hooks.stderr"));
  return files;
}

Result<void> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view kind, const std::string& state,
                       const HookFiles& files) {
  for (const auto& hook : hooks) {
    auto status = run_hook(hook, state, files);
    if (!status) return with_context(status.error(), std::string(kind) + " hook", hook.path);
    // "'/bin/false': prestart hook failed with exit code 1": in crun's words, which callers look for.
    if (*status != 0)
      return unsupported_error(
          "", hook.path,
          std::string(kind) + " hook failed" +
              (WIFEXITED(*status) ? " with exit code " + std::to_string(WEXITSTATUS(*status))
                                  : ": " + sys::describe_wait_status(*status)));
  }
  return {};
}

void run_poststop_hooks(const spec::Hooks& hooks, const std::string& state) {
  if (hooks.poststop.empty()) return;
  HookFiles files;
  if (auto opened = open_hook_files(hooks); opened)
    files = std::move(*opened);
  else
    log_warning("{}", opened.error().message());
  for (const auto& hook : hooks.poststop)
    if (auto ran = run_hooks({hook}, "poststop", state, files); !ran)
      log_warning("{}", ran.error().message());
}

}  // namespace layerfs::container
