// SPDX-License-Identifier: Apache-2.0
// The life of a container's group that systemd makes (plan/systemd_scope.h): a scope of the system's manager
// for root, of the user's for others.
//
//   start_scope()   StartTransientUnit with the init in it -> its group found -> the limits written
//   update_scope()  SetUnitProperties -> the limits written
//   stop_scope()    StopUnit -> what is left of the group removed
//
// (1) The init is in the scope before it has its limits, but does not go on before it has them.
// (2) The limits are written too, though systemd was told them: what it cannot set it only logs, and a few it
//     rounds.
// (3) A scope whose processes are gone goes by itself, also where nobody is left to stop it.
#pragma once

#include <sys/types.h>

#include <string>

#include "fs/base/result.h"
#include "runtime/plan/cgroup_plan.h"
#include "runtime/plan/container_plan.h"
#include "runtime/sys/cgroup.h"

namespace layerfs::container {

/// The scope's group, with `pid`, a child of the caller, in it and the limits set. Where it fails it leaves
/// nothing and `pid` is killed, or is in no scope. Errors:
/// kUnsupported where no systemd runs; EEXIST where another container has the name; those of limits, naming
/// the field.
Result<sys::CgroupDirs> start_scope(const plan::HostFacts& host, const plan::ScopePlan& scope,
                                    const plan::CgroupPlan& limits, pid_t pid);
Result<void> update_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group,
                          const plan::CgroupPlan& limits);
/// Moves one more process in.
Result<void> join_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group,
                        pid_t pid);
/// Kills what is left in it. A systemd that cannot be asked any more is a warning: see (3).
Result<void> stop_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group);

}  // namespace layerfs::container
