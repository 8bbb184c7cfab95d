// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/host.h"

#include <linux/capability.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "fs/base/mount_info.h"
#include "fs/base/sys_file.h"
#include "runtime/plan/security_label.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {

namespace {

/// Who the caller's user id is in the namespace above, and whether that is the first one
/// (user_namespaces(7)).
void read_owner(plan::HostFacts& host) {
  host.host_uid = host.uid;
  auto map = read_file("/proc/self/uid_map", 65536);
  bool is_first = true;
  unsigned long inside = 0;
  unsigned long outside = 0;
  unsigned long count = 0;
  const char* line = map ? map->c_str() : "";
  int length = 0;
  while (std::sscanf(line, "%lu %lu %lu%n", &inside, &outside, &count, &length) == 3) {
    is_first = is_first && inside == 0 && outside == 0 && count == 4294967295;
    if (host.uid >= inside && host.uid - inside < count)
      host.host_uid = static_cast<std::uint32_t>(outside + (host.uid - inside));
    line += length;
  }
  host.host_root = is_first && host.uid == 0;
}

plan::AppArmorState read_apparmor_state() {
  auto enabled = read_file("/sys/module/apparmor/parameters/enabled", 64);
  if (!enabled) return plan::AppArmorState::kAbsent;
  auto current = read_file("/proc/self/attr/apparmor/current", 65536);
  if (!current) current = read_file("/proc/self/attr/current", 65536);  // before Linux 5.8
  return plan::parse_apparmor_state(*enabled, current ? *current : "");
}

}  // namespace

Result<plan::HostFacts> read_host_facts() {
  plan::HostFacts host;
  host.uid = ::geteuid();
  host.gid = ::getegid();
  LAYERFS_ASSIGN(std::uint64_t effective, sys::effective_capabilities());
  constexpr std::uint64_t kNeeded =
      (1ULL << CAP_SYS_ADMIN) | (1ULL << CAP_SETUID) | (1ULL << CAP_SETGID) | (1ULL << CAP_DAC_OVERRIDE);
  host.privileged = (effective & kNeeded) == kNeeded;
  read_owner(host);
  host.last_capability = sys::last_capability();
  LAYERFS_ASSIGN(std::string mountinfo, read_file("/proc/self/mountinfo"));
  std::vector<MountEntry> mounts = parse_mount_info(mountinfo);
  LAYERFS_ASSIGN(std::string groups, read_file("/proc/self/cgroup"));
  host.cgroups = plan::parse_cgroup_layout(mounts, groups);
  host.selinux = plan::has_selinux(mounts);
  host.resctrl = plan::find_resctrl(mounts);
  host.apparmor = read_apparmor_state();
  host.processors = static_cast<unsigned>(std::max(::sysconf(_SC_NPROCESSORS_CONF), 0L));
  return host;
}

}  // namespace layerfs::container
