// SPDX-License-Identifier: Apache-2.0
// A container on a layerfs mount: client, monitor, server and init (RUN.md).
//
// (1) Requires a single-threaded caller without an open Store: it forks.
// (2) Nothing is left behind, however and whoever dies.
#pragma once

#include <string>

#include "fs/base/result.h"
#include "fs/mount/mount_request.h"
#include "runtime/container/seccomp_program.h"
#include "runtime/plan/container_plan.h"
#include "runtime/run/running_file.h"

namespace layerfs::run {

struct RunRequest {
  plan::ContainerPlan plan;
  container::SeccompProgram seccomp;
  mount::MountRequest mount;
  std::string name;
  plan::CgroupMode cgroup_mode = plan::CgroupMode::kEnabled;
  std::int64_t memory_limit = 0;  ///< for the message about it; 0: none
  bool remove = false;
  bool detach = false;
  bool interactive = false;  ///< standard input is the container's
};

/// Runs it. Returns what the command exits with: the program's status, 125 where the container could not be
/// started (the message has been printed), 126 or 127 where its program could not; 0 for one that runs
/// detached.
/// `running` is given up to the monitor.
Result<int> run_container(RunRequest& request, RunningFile running);

}  // namespace layerfs::run
