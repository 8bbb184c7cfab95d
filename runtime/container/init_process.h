// SPDX-License-Identifier: Apache-2.0
// The container's first process, from its birth in the new namespaces to the final stage
// (final_stage/final_stage.h).
//
//   born (clone3) -> waits for kGo -> root of its user namespace -> steps of the plan -> the program is
//   looked for
//   -> final stage: drops privileges, waits for start, execve
//
// (1) Its memory is a copy of its creator's, which was single-threaded: allocating is safe.
// (2) It never returns: it becomes the final stage, or reports kFailed and exits with 125.
// (3) Until the final stage nobody in the container's namespaces can read its /proc entries (undumpable), and
//     it holds no descriptor that the program would get but those below `keep_fds`.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fs/base/fd.h"
#include "runtime/container/hooks.h"
#include "runtime/container/seccomp_program.h"
#include "runtime/container/sync_channel.h"
#include "runtime/plan/container_plan.h"

namespace layerfs::container {

struct InitRequest {
  plan::ContainerPlan plan;
  SeccompProgram seccomp;
  Fd stage_program;    ///< final_stage_image.h
  Fd start_fifo;       ///< read before the program starts; empty: starts at once
  Fd proc;             ///< the runtime's /proc, where the process gets labels; opened by launch()
  Fd listener_socket;  ///< gets the descriptor of SCMP_ACT_NOTIFY, with listener_state's text
  std::function<std::string(pid_t pid)> listener_state;
  Fd console_socket;                ///< gets the terminal's master; empty: the creator gets it
  std::uint32_t keep_fds = 3;       ///< descriptors below are the program's
  std::vector<Fd> prepared_mounts;  ///< prepared_mounts.h; made by launch()
  /// Descriptors of the creator's own, closed at birth: its lock of the state, which a copy would keep.
  std::vector<int> creators_fds;
  std::vector<Fd> held;  ///< stand where a descriptor below `keep_fds` is not open; none reaches the program
  unsigned listen_fds = 0;  ///< of the caller's LISTEN_FDS (sd_listen_fds(3))
  bool die_with_parent = false;
  bool own_session = true;
  std::string keyring;        ///< name of a new session keyring; empty: the caller's is kept
  bool joins_mounts = false;  ///< `exec`: the root is there, and nothing of it is made
  std::string shared_root;    ///< ... and where, if the container has no mount namespace to be joined
  HookFiles hook_files;       ///< of createContainer and startContainer hooks
  std::string hook_state;     ///< JSON for createContainer and startContainer hooks, without the pid
  std::function<std::string(int device)> fuse_options;
};

/// Runs in the new process. Never returns.
[[noreturn]] void run_init(InitRequest& request, SyncChannel sync);

/// The first element of `args` as a path: itself where it has a slash, else the first executable of PATH. The
/// message names it. Errors: ENOENT, EACCES.
Result<std::string> find_program(const std::string& name, const std::vector<std::string>& env);

}  // namespace layerfs::container
