// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/scheduling.h"

#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>

namespace layerfs::sys {

namespace {

/// struct sched_attr of the first version: glibc 2.36 has none.
struct SchedulerAttributes {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime;
  std::uint64_t deadline;
  std::uint64_t period;
};
static_assert(sizeof(SchedulerAttributes) == 48);

constexpr std::size_t kWordBits = sizeof(unsigned long) * CHAR_BIT;

/// `numbers` is sorted.
std::vector<unsigned long> make_mask(const std::vector<unsigned>& numbers) {
  std::vector<unsigned long> mask;
  if (!numbers.empty()) mask.resize(numbers.back() / kWordBits + 1);
  for (unsigned number : numbers) mask[number / kWordBits] |= 1UL << number % kWordBits;
  return mask;
}

}  // namespace

Result<void> set_scheduler(const SchedulerSetting& setting) {
  SchedulerAttributes attributes{sizeof attributes, setting.policy,  setting.flags,    setting.nice,
                                 setting.priority,  setting.runtime, setting.deadline, setting.period};
  if (::syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) return system_error(errno, "set scheduler");
  return {};
}

Result<void> set_io_priority(int io_class, int priority) {
  constexpr int kProcess = 1;      // IOPRIO_WHO_PROCESS
  constexpr int kClassShift = 13;  // IOPRIO_CLASS_SHIFT
  if (::syscall(SYS_ioprio_set, kProcess, 0, io_class << kClassShift | priority) != 0)
    return system_error(errno, "set I/O priority");
  return {};
}

Result<void> set_affinity(pid_t pid, const std::vector<unsigned>& cpus) {
  auto mask = make_mask(cpus);
  if (::syscall(SYS_sched_setaffinity, pid, mask.size() * sizeof(unsigned long), mask.data()) < 0)
    return system_error(errno, "set processors");
  return {};
}

Result<void> set_memory_policy(int mode, const std::vector<unsigned>& nodes) {
  auto mask = make_mask(nodes);
  // The kernel looks at one bit less than it is told (set_mempolicy(2), BUGS).
  unsigned long bits = mask.empty() ? 0 : mask.size() * kWordBits + 1;
  if (::syscall(SYS_set_mempolicy, mode, mask.empty() ? nullptr : mask.data(), bits) != 0)
    return system_error(errno, "set memory policy");
  return {};
}

Result<void> set_personality(unsigned long persona) {
  if (::personality(persona) < 0) return system_error(errno, "set personality");
  return {};
}

}  // namespace layerfs::sys
