// SPDX-License-Identifier: Apache-2.0
// How the kernel runs a process: scheduler, priorities, processors, memory nodes, personality. What is set
// for the calling process is inherited by its children and kept over exec. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::sys {

/// sched_setattr(2), whose names these are.
struct SchedulerSetting {
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

/// Errors: EPERM without CAP_SYS_NICE, EINVAL.
Result<void> set_scheduler(const SchedulerSetting& setting);
/// ioprio_set(2). Errors: EPERM.
Result<void> set_io_priority(int io_class, int priority);
/// sched_setaffinity(2) of another process. Errors: EINVAL where none of `cpus` is usable.
Result<void> set_affinity(pid_t pid, const std::vector<unsigned>& cpus);
/// set_mempolicy(2); `mode` with its flags. Errors: ENOSYS without NUMA, EINVAL.
Result<void> set_memory_policy(int mode, const std::vector<unsigned>& nodes);
/// personality(2).
Result<void> set_personality(unsigned long persona);

}  // namespace layerfs::sys
