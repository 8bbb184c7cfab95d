// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/systemd_scope.h"

#include <signal.h>

#include <cerrno>
#include <cstdlib>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/container/launch.h"
#include "runtime/sys/systemd_manager.h"

namespace layerfs::container {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

/// The manager's own socket first, as systemctl does: it is there without a bus.
std::vector<sys::ManagerAddress> manager_addresses(const plan::HostFacts& host) {
  std::vector<sys::ManagerAddress> addresses;
  auto add_bus = [&](const char* variable, const std::string& usual) {
    std::string said = environment(variable);
    addresses.push_back({said.empty() ? sys::unix_address(usual) : said, true});
  };
  if (host.host_root) {
    addresses.push_back({sys::unix_address("/run/systemd/private"), false});
    add_bus("DBUS_SYSTEM_BUS_ADDRESS", "/run/dbus/system_bus_socket");
    return addresses;
  }
  std::string directory = environment("XDG_RUNTIME_DIR");
  if (directory.empty()) directory = "/run/user/" + std::to_string(host.host_uid);
  addresses.push_back({sys::unix_address(directory + "/systemd/private"), false});
  add_bus("DBUS_SESSION_BUS_ADDRESS", directory + "/bus");
  return addresses;
}

Result<sys::SystemdManager> connect_to_manager(const plan::HostFacts& host) {
  return sys::SystemdManager::connect(manager_addresses(host));
}

std::vector<sys::UnitProperty> to_sys(const std::vector<plan::UnitProperty>& properties) {
  std::vector<sys::UnitProperty> list;
  list.reserve(properties.size());
  for (const auto& property : properties) list.push_back({property.name, property.value});
  return list;
}

/// Where systemd has put the process: below what it has been given itself, which only it knows.
Result<sys::CgroupDirs> find_group(pid_t pid, const std::string& unit) {
  LAYERFS_ASSIGN(std::string mounts, read_file("/proc/self/mountinfo"));
  LAYERFS_ASSIGN(std::string groups, read_file("/proc/" + std::to_string(pid) + "/cgroup"));
  plan::CgroupLayout layout = plan::parse_cgroup_layout(parse_mount_info(mounts), groups);
  const plan::CgroupHierarchy* unified = layout.find_unified();
  if (unified == nullptr || !unified->own_path.ends_with('/' + unit))
    return unsupported_error("find group of systemd's unit", unit,
                             "process " + std::to_string(pid) + " is not in it");
  return sys::CgroupDirs({unified->mount_point + unified->own_path});
}

}  // namespace

Result<sys::CgroupDirs> start_scope(const plan::HostFacts& host, const plan::ScopePlan& scope,
                                    const plan::CgroupPlan& limits, pid_t pid) {
  LAYERFS_ASSIGN(sys::SystemdManager manager, connect_to_manager(host));
  auto started = manager.start_scope(scope.unit, to_sys(scope.properties), pid);
  // Another's scope of this name is not ours to stop. A job that ended otherwise, or not in time, is.
  if (!started && started.error().code == EEXIST) return std::unexpected(started.error());
  ScopeExit stop([&] {
    // First: systemd asks with SIGTERM, of which the init of a pid namespace hears nothing, and waits.
    ::kill(pid, SIGKILL);
    if (auto stopped = manager.stop_unit(scope.unit); !stopped) log_warning("{}", stopped.error().message());
  });
  LAYERFS_TRY(started);
  LAYERFS_ASSIGN(sys::CgroupDirs group, find_group(pid, scope.unit));
  LAYERFS_TRY(group.update(cgroup_requests(limits)));
  stop.release();
  return group;
}

Result<void> update_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group,
                          const plan::CgroupPlan& limits) {
  std::vector<plan::UnitProperty> properties;
  for (const auto& part : limits.groups)
    for (auto& property : plan::unit_properties(part.writes)) properties.push_back(std::move(property));
  if (!properties.empty()) {
    LAYERFS_ASSIGN(sys::SystemdManager manager, connect_to_manager(host));
    LAYERFS_TRY(manager.set_properties(unit, to_sys(properties)));
  }
  return group.update(cgroup_requests(limits));
}

Result<void> join_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group,
                        pid_t pid) {
  auto added = group.add(pid);
  if (added || (added.error().code != EACCES && added.error().code != EPERM)) return added;
  // From outside of what is delegated to the user (a session's scope is the system's) the kernel lets nobody
  // move a process in (cgroup-v2.rst, "Delegation Containment"), but the user's manager may ask the system's.
  LAYERFS_ASSIGN(sys::SystemdManager manager, connect_to_manager(host));
  if (auto attached = manager.attach_process(unit, pid); !attached)
    return with_context(attached.error(), "join cgroup");
  return {};
}

Result<void> stop_scope(const plan::HostFacts& host, const std::string& unit, const sys::CgroupDirs& group) {
  LAYERFS_TRY(group.kill_all());  // systemd would ask them first, and wait
  auto stopped = [&]() -> Result<void> {
    LAYERFS_ASSIGN(sys::SystemdManager manager, connect_to_manager(host));
    return manager.stop_unit(unit);
  }();
  if (!stopped) log_warning("{}", stopped.error().message());
  return group.remove();
}

}  // namespace layerfs::container
