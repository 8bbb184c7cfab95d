// SPDX-License-Identifier: Apache-2.0
// What the specification demands across fields (runtime-spec, config.md and config-linux.md).
#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "runtime/spec/parse_spec.h"

namespace layerfs::spec {

namespace {

constexpr const char* kBreak = "has a line break";

/// Without a mount namespace the caller's is shared: what would change mounts that are the caller's is
/// refused.
Result<void> check_shared_mounts(const ContainerSpec& spec) {
  auto refused = [](const char* field) {
    return invalid_error("field", field, "needs a mount namespace: it would change the caller's mounts");
  };
  if (!spec.masked_paths.empty()) return refused("linux.maskedPaths");
  if (!spec.readonly_paths.empty()) return refused("linux.readonlyPaths");
  if (spec.rootfs_propagation != Propagation::kUnset) return refused("linux.rootfsPropagation");
  if (spec.root.read_only) return refused("root.readonly");
  return {};
}

Result<void> check_namespaces(const ContainerSpec& spec) {
  std::set<NamespaceKind> seen;
  for (const auto& entry : spec.namespaces) {
    if (!seen.insert(entry.kind).second)
      return invalid_error("field", "linux.namespaces",
                           "names '" + std::string(to_text(entry.kind)) + "' twice");
    if (!entry.path.empty() && !entry.path.starts_with('/'))
      return invalid_error("field", "linux.namespaces",
                           "has a path that is not absolute: '" + entry.path + "'");
  }
  bool maps = !spec.uid_mappings.empty() || !spec.gid_mappings.empty();
  const Namespace* user = spec.find_namespace(NamespaceKind::kUser);
  if (maps && (user == nullptr || !user->path.empty()))
    return invalid_error("field", "linux.uidMappings", "needs a new user namespace");
  if (spec.makes(NamespaceKind::kUser) && (spec.uid_mappings.empty() || spec.gid_mappings.empty()))
    return invalid_error("field", spec.uid_mappings.empty() ? "linux.uidMappings" : "linux.gidMappings",
                         "is missing: a new user namespace needs mappings");
  if (spec.find_namespace(NamespaceKind::kMount) == nullptr) LAYERFS_TRY(check_shared_mounts(spec));
  if (spec.find_namespace(NamespaceKind::kUts) == nullptr &&
      (!spec.hostname.empty() || !spec.domainname.empty()))
    return invalid_error("field", spec.hostname.empty() ? "domainname" : "hostname", "needs a uts namespace");
  return {};
}

}  // namespace

Result<void> validate(const Process& process) {
  if (!process.cwd.starts_with('/')) return invalid_error("field", "process.cwd", "must be absolute");
  if (process.oom_score_adj && (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000))
    return invalid_error("field", "process.oomScoreAdj", "must be between -1000 and 1000");
  // 2^32 - 1 is "no id" to the kernel, which would leave the runtime's own (setresuid(2)).
  constexpr std::uint32_t kNoId = ~std::uint32_t{0};
  const User& user = process.user;
  auto out_of_range = [](const char* field) {
    return invalid_error("field", field, "is out of range: 4294967295 is no id");
  };
  if (user.uid == kNoId) return out_of_range("process.user.uid");
  if (user.gid == kNoId) return out_of_range("process.user.gid");
  if (std::ranges::find(user.additional_gids, kNoId) != user.additional_gids.end())
    return out_of_range("process.user.additionalGids");
  std::set<std::string> seen;
  for (const auto& limit : process.rlimits) {
    if (!seen.insert(limit.type).second)
      return invalid_error("field", "process.rlimits", "names '" + limit.type + "' twice");
    if (limit.soft > limit.hard)
      return invalid_error("field", "process.rlimits", "has a soft " + limit.type + " above the hard one");
  }
  return {};
}

namespace {

/// The namespace that a sysctl belongs to (namespaces(7), ipc_namespaces(7)); nullopt: the whole machine's.
std::optional<NamespaceKind> sysctl_namespace(const std::string& dotted) {
  constexpr std::string_view kIpc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                       "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                       "kernel.shmmni", "kernel.shm_rmid_forced"};
  if (dotted.starts_with("net.")) return NamespaceKind::kNetwork;
  if (dotted.starts_with("fs.mqueue.") || std::ranges::find(kIpc, dotted) != std::end(kIpc))
    return NamespaceKind::kIpc;
  if (dotted == "kernel.domainname") return NamespaceKind::kUts;
  if (dotted.starts_with("user.")) return NamespaceKind::kUser;
  return std::nullopt;
}

/// "net.//.kernel.panic" and "net/../kernel/panic" would be a file of the host's under a name that begins as
/// the namespace's do.
bool is_sysctl_name(std::string_view dotted) {
  for (std::size_t begin = 0; begin <= dotted.size();) {
    std::size_t end = std::min(dotted.find('.', begin), dotted.size());
    std::string_view part = dotted.substr(begin, end - begin);
    // In the dotted form a slash stands for a dot.
    if (part.empty() || part == "/" || part == "//") return false;
    begin = end + 1;
  }
  return true;
}

/// What would change the host is refused, as by crun and runc.
Result<void> check_sysctl(const ContainerSpec& spec) {
  for (const auto& [key, value] : spec.sysctl) {
    std::string field = "linux.sysctl." + key;
    std::string dotted = key;
    // "net/ipv4/conf/eth0.1/x": with slashes the dots belong to names (sysctl(8)).
    if (std::size_t first = key.find_first_of("./"); first != std::string::npos && key[first] == '/')
      for (char& c : dotted) c = c == '/' ? '.' : c == '.' ? '/' : c;
    if (!is_sysctl_name(dotted)) return invalid_error("field", field, "is no name of a setting");
    if (dotted == "kernel.hostname") return invalid_error("field", field, "is what 'hostname' is for");
    auto kind = sysctl_namespace(dotted);
    if (!kind) return invalid_error("field", field, "belongs to no namespace: it is the host's");
    if (spec.find_namespace(*kind) == nullptr)
      return invalid_error("field", field,
                           "needs a namespace of its own: '" + std::string(to_text(*kind)) + "'");
  }
  auto domain = spec.sysctl.find("kernel.domainname");
  if (domain != spec.sysctl.end() && !spec.domainname.empty() && domain->second != spec.domainname)
    return invalid_error("field", "linux.sysctl.kernel.domainname", "is not what domainname says");
  return {};
}

/// What the kernel takes for the name of an interface, or for a template of one ("eth%d").
bool is_interface_name(std::string_view name) {
  constexpr std::size_t kLongest = 15;  // IFNAMSIZ - 1 (netdevice(7))
  if (name.empty() || name.size() > kLongest || name == "." || name == "..") return false;
  if (name.find_first_of("/: \t\n\v\f\r") != std::string_view::npos) return false;
  std::size_t percent = name.find('%');
  return percent == std::string_view::npos ||
         (name.substr(percent, 2) == "%d" && name.find('%', percent + 1) == std::string_view::npos);
}

Result<void> check_net_devices(const ContainerSpec& spec) {
  std::set<std::string_view> names;
  for (const auto& device : spec.net_devices) {
    std::string field = "linux.netDevices." + device.host_name;
    if (!is_interface_name(device.host_name) || device.host_name.find('%') != std::string::npos)
      return invalid_error("field", field, "is no name of an interface");
    if (!is_interface_name(device.name))
      return invalid_error("field", field + ".name", "is no name of an interface: '" + device.name + "'");
    if (!names.insert(device.name).second && device.name.find('%') == std::string::npos)
      return invalid_error("field", field + ".name", "is that of another one: '" + device.name + "'");
  }
  if (!spec.net_devices.empty() && spec.find_namespace(NamespaceKind::kNetwork) == nullptr)
    return invalid_error("field", "linux.netDevices", "needs a network namespace");
  return {};
}

/// "64KB", "2MB", "1GB": it becomes part of a file's name.
bool is_page_size(std::string_view text) {
  std::size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos) return false;
  std::string_view unit = text.substr(digits);
  return unit == "KB" || unit == "MB" || unit == "GB";
}

Result<void> check_intel_rdt(const IntelRdt& rdt) {
  // What resctrl itself has beside the classes, and what would lead out of it.
  constexpr std::string_view kTaken[] = {".", "..", "info", "mon_data", "mon_groups"};
  if (rdt.clos_id != "/" && (rdt.clos_id.find_first_of("/\n") != std::string::npos ||
                             std::ranges::find(kTaken, rdt.clos_id) != std::end(kTaken)))
    return invalid_error("field", "linux.intelRdt.closID", "is no name of a class: '" + rdt.clos_id + "'");
  if (!rdt.memory_bandwidth_schema.empty() && !rdt.memory_bandwidth_schema.starts_with("MB:"))
    return invalid_error("field", "linux.intelRdt.memBwSchema", "does not begin with \"MB:\"");
  auto broken = [](const std::string& line) { return line.find('\n') != std::string::npos; };
  if (broken(rdt.l3_cache_schema)) return invalid_error("field", "linux.intelRdt.l3CacheSchema", kBreak);
  if (broken(rdt.memory_bandwidth_schema))
    return invalid_error("field", "linux.intelRdt.memBwSchema", kBreak);
  if (std::ranges::any_of(rdt.schemata, broken))
    return invalid_error("field", "linux.intelRdt.schemata", kBreak);
  return {};
}

Result<void> check_cgroup_names(const ContainerSpec& spec) {
  if (('/' + spec.cgroups_path + '/').find("/../") != std::string::npos)
    return invalid_error("field", "linux.cgroupsPath", "must not have '..'");
  for (const auto& page : spec.resources.hugepages)
    if (!is_page_size(page.page_size))
      return invalid_error("field", "linux.resources.hugepageLimits",
                           "has a pageSize that is none: '" + page.page_size + "'");
  for (const auto& [key, value] : spec.resources.unified)
    if (key.empty() || key.find('/') != std::string::npos || key.find('.') == std::string::npos)
      return invalid_error("field", "linux.resources.unified",
                           "has a key that is no cgroup file: '" + key + "'");
  return {};
}

Result<void> check_linux(const ContainerSpec& spec) {
  for (const auto& mount : spec.mounts)
    if (mount.destination.empty()) return invalid_error("field", "mounts", "has an empty destination");
  for (const auto& device : spec.devices)
    if (!device.path.starts_with('/'))
      return invalid_error("field", "linux.devices",
                           "has a path that is not absolute: '" + device.path + "'");
  LAYERFS_TRY(check_sysctl(spec));
  LAYERFS_TRY(check_net_devices(spec));
  if (spec.intel_rdt) LAYERFS_TRY(check_intel_rdt(*spec.intel_rdt));
  if (!spec.time_offsets.empty() && !spec.makes(NamespaceKind::kTime))
    return invalid_error("field", "linux.timeOffsets", "needs a new time namespace");
  const Resources& resources = spec.resources;
  if (resources.memory_limit && resources.memory_swap && *resources.memory_swap >= 0 &&
      *resources.memory_limit > *resources.memory_swap)
    return invalid_error("field", "linux.resources.memory.swap", "is below the memory limit");
  return check_cgroup_names(spec);
}

}  // namespace

Result<void> validate(const ContainerSpec& spec) {
  LAYERFS_TRY(check_namespaces(spec));
  LAYERFS_TRY(validate(spec.process));
  return check_linux(spec);
}

}  // namespace layerfs::spec
