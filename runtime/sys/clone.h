// SPDX-License-Identifier: Apache-2.0
// Making processes in new namespaces, joining namespaces, and keeping hold of processes by pidfd
// (pidfd_open(2)).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::sys {

/// clone3(2) without a new stack: returns twice, 0 in the child, as fork(2). `flags`: CLONE_NEW*,
/// CLONE_PARENT. Requires: a single-threaded caller. Errors: EPERM, EINVAL, ENOSPC (user.max_*_namespaces),
/// EAGAIN.
Result<pid_t> clone_process(std::uint64_t flags);
/// setns(2). `flag`: the kind that `fd` must be.
Result<void> join_namespace(int fd, std::uint64_t flag);
/// Errors: ESRCH; ENOSYS before Linux 5.3.
Result<Fd> open_pidfd(pid_t pid);
/// Errors: ESRCH where the process is gone.
Result<void> send_signal(int pidfd, int signal);
/// The signal that this process gets when its parent thread dies (prctl(2)).
Result<void> set_parent_death_signal(int signal);
/// Other processes may neither read this one's /proc entries nor trace it (PR_SET_DUMPABLE, prctl(2)).
Result<void> set_undumpable();
/// Field 22 of /proc/PID/stat: tells a process from a later one of the same pid. nullopt where there is none.
Result<std::optional<std::uint64_t>> find_start_time(pid_t pid);
/// Marks every descriptor from `first` on close-on-exec, or closes it.
enum class CloseMode : std::uint8_t { kClose, kOnExec };
Result<void> close_from(int first, CloseMode mode);
/// The effective capabilities of this thread, as a mask.
Result<std::uint64_t> effective_capabilities();
/// /proc/sys/kernel/cap_last_cap.
unsigned last_capability();

}  // namespace layerfs::sys
