// SPDX-License-Identifier: Apache-2.0
// The creator's side of a container's birth: the init is made, its id maps written, its cgroup joined, and
// its messages answered until it is ready or runs.
//
//   launch()        idmapped mounts -> clone -> id maps -> cgroup -> interfaces -> kGo
//   await_ready()   kFuseDevice, kConsole, kSource, kHooks answered; ends at kReady
//   await_program() ends when the program runs (the channel closes) or could not be executed
//
// (1) Requires a single-threaded caller (clone without exec, CONVENTIONS 20).
// (2) When launch() or a wait fails, the init is killed and reaped before the error is returned.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/container/init_process.h"
#include "runtime/container/sync_channel.h"
#include "runtime/sys/cgroup.h"

namespace layerfs::container {

/// The program could not be executed: 126, or 127 where it is not there (as podman-run(1)).
struct ProgramFailure {
  int status = 0;  ///< 0: it runs
  std::string message;
};

struct LaunchEvents {
  /// `processes`: a procfs of the container's PID namespace; may be empty.
  std::function<Result<void>(Fd device, Fd processes)> fuse_device;
  std::function<Result<void>(Fd master)> console;
  std::function<Result<void>(pid_t pid)> runtime_hooks;
  /// The bind mount of that step of the plan, attached nowhere. Empty: none is made.
  std::function<Result<Fd>(std::size_t step)> source_mount;
};

class LaunchedInit {
 public:
  LaunchedInit(pid_t pid, Fd pidfd, SyncChannel sync)
      : pid_(pid), pidfd_(std::move(pidfd)), sync_(std::move(sync)) {}
  LaunchedInit(LaunchedInit&&) = default;

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  /// Can be read once await_program() would not wait.
  int channel() const { return sync_.fd(); }
  /// The init may begin. Errors: EPIPE where it is gone.
  Result<void> send_go();
  /// kReady, or a program that was not found.
  Result<ProgramFailure> await_ready(const LaunchEvents& events);
  Result<ProgramFailure> await_program();
  /// Kills and reaps. Idempotent.
  void destroy();

 private:
  Result<ProgramFailure> fail(Error error);
  Result<void> send_source(const LaunchEvents& events, std::size_t step);

  pid_t pid_;
  Fd pidfd_;
  SyncChannel sync_;
  Fd processes_;  // until the device comes
};

/// `join_cgroup` puts the init into its groups; nobody has told it to go on. `on_born`, where there is one,
/// is called with the init's pid before the init goes on: until then it ends by itself when its creator dies.
/// Errors: those of clone3(2) with what the host may forbid said; newuidmap's; the init's own.
Result<LaunchedInit> launch(InitRequest& request, const std::function<Result<void>(pid_t)>& join_cgroup,
                            const std::function<Result<void>(pid_t)>& on_born = {});

/// What the plan asks of the host's hierarchies.
std::vector<sys::CgroupRequest> cgroup_requests(const plan::CgroupPlan& plan);
/// The plan's groups, made. A limit that cannot be set is an error, or with kEnabled a warning and no group.
Result<sys::CgroupDirs> make_cgroup(const plan::CgroupPlan& plan, plan::CgroupMode mode);

}  // namespace layerfs::container
