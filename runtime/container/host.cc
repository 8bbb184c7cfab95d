// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/host.h"

#include <linux/capability.h>
#include <unistd.h>

#include "fs/base/sys_file.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {

Result<plan::HostFacts> read_host_facts() {
  plan::HostFacts host;
  host.uid = ::geteuid();
  host.gid = ::getegid();
  LAYERFS_ASSIGN(std::uint64_t effective, sys::effective_capabilities());
  constexpr std::uint64_t kNeeded =
      (1ULL << CAP_SYS_ADMIN) | (1ULL << CAP_SETUID) | (1ULL << CAP_SETGID) | (1ULL << CAP_DAC_OVERRIDE);
  host.privileged = (effective & kNeeded) == kNeeded;
  host.last_capability = sys::last_capability();
  LAYERFS_ASSIGN(std::string mounts, read_file("/proc/self/mountinfo"));
  LAYERFS_ASSIGN(std::string groups, read_file("/proc/self/cgroup"));
  host.cgroups = plan::parse_cgroup_layout(mounts, groups);
  return host;
}

}  // namespace layerfs::container
