// SPDX-License-Identifier: Apache-2.0
// Executes the steps of a plan in a container's init. What is fixed by the plan is there; what only the run
// knows (a channel to the creator, how to mount FUSE) is in StepContext.
//
// (1) Steps run in order; the first error ends the run and names its step.
// (2) Mounts under /proc are made only on what is procfs: an image with its own /proc cannot catch them.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/container/sync_channel.h"
#include "runtime/plan/container_plan.h"
#include "runtime/plan/step.h"
#include "runtime/sys/syscalls.h"

namespace layerfs::container {

struct StepContext {
  sys::Syscalls& calls;
  SyncChannel& sync;
  plan::ProcessPlan& process;  ///< ResolveUser fills in who it is
  const plan::IdMapPlan& ids;
  /// Options of mount(2) for a FUSE mount on this device.
  std::function<std::string(int device)> fuse_options;
  /// Makes a pseudo-terminal in the root's devpts and hands its master over; sets `terminal`.
  std::function<Result<void>(const plan::ConsoleStep&, StepContext&)> make_console;
  std::function<Result<void>()> run_container_hooks;
  Fd root;                         ///< the container's root, once it is mounted
  Fd host_proc;                    ///< /proc of the host
  Fd empty_dir;                    ///< the first masked directory's mount: further ones are copies of it
  Fd terminal;                     ///< the slave, for descriptors 0 to 2
  std::deque<Fd> prepared_mounts;  ///< prepared_mounts.h, of the steps to come
  std::vector<Fd> readonly_later;  ///< roots of the mounts that ReadonlyMounts is for
  std::size_t step = 0;            ///< the one that runs
};

Result<void> run_steps(std::span<const plan::Step> steps, StepContext& context);

}  // namespace layerfs::container
