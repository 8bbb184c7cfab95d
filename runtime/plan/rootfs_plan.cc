// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/rootfs_plan.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>

#include "runtime/plan/mount_options.h"
#include "runtime/plan/security_label.h"

namespace layerfs::plan {

namespace {

std::string absolute(const std::string& path, const std::string& bundle) {
  if (path.starts_with('/') || bundle.empty()) return path;
  return bundle + '/' + path;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string remove_option(const std::string& data, std::string_view option) {
  std::string kept;
  std::size_t begin = 0;
  while (begin <= data.size()) {
    std::size_t end = std::min(data.find(',', begin), data.size());
    std::string_view one = std::string_view(data).substr(begin, end - begin);
    if (!one.empty() && one != option) {
      if (!kept.empty()) kept += ',';
      kept += one;
    }
    begin = end + 1;
  }
  return kept;
}

MountStep to_step(const spec::Mount& mount, const MountOptions& options) {
  MountStep step;
  step.target = mount.destination.starts_with('/') ? mount.destination : '/' + mount.destination;
  step.source = mount.source;
  step.type = options.bind ? std::string() : mount.type;
  step.flags = options.set_flags;
  step.clear_flags = options.clear_flags;
  step.data = options.data;
  step.bind = options.bind;
  step.recursive = options.recursive;
  step.copy_up = options.copy_up;
  step.owned_by_user = mount.owned_by_user;
  step.recursive_set = options.recursive_set;
  step.recursive_clear = options.recursive_clear;
  for (auto propagation : options.propagation) step.propagation.push_back(spec::mount_flags(propagation));
  return step;
}

/// One mount of config.json is one step, but for cgroups: those are a mount for each hierarchy.
class RootfsPlanner {
 public:
  RootfsPlanner(const spec::ContainerSpec& spec, const HostFacts& host, const PlanOptions& options,
                const CgroupPlan& cgroup)
      : spec_(spec), host_(host), options_(options), cgroup_(cgroup) {}

  Result<std::vector<Step>> plan() {
    if (spec_.makes(spec::NamespaceKind::kCgroup)) add(UnshareCgroup{});
    plan_root();
    for (const auto& mount : spec_.mounts) LAYERFS_TRY(plan_mount(mount));
    LAYERFS_TRY(plan_devices());
    if (spec_.process.terminal)
      add(ConsoleStep{spec_.process.console_size.height, spec_.process.console_size.width,
                      !bound("/dev/console")});
    plan_identity();
    if (readonly_later_) add(ReadonlyMounts{});
    for (const auto& [key, value] : spec_.sysctl) add(SysctlStep{sysctl_path(key), value});
    if (spec_.root.read_only) add(ReadonlyRoot{});
    for (const auto& path : spec_.readonly_paths) add(ReadonlyStep{path});
    for (const auto& path : spec_.masked_paths) add(MaskStep{path});
    if (!spec_.hooks.prestart.empty() || !spec_.hooks.create_runtime.empty()) add(RuntimeHooks{});
    if (!spec_.hooks.create_container.empty()) add(ContainerHooks{});
    PivotKind kind = shares_mounts()     ? PivotKind::kChroot
                     : options_.no_pivot ? PivotKind::kMoveAndChroot
                                         : PivotKind::kPivot;
    add(Pivot{kind, spec::mount_flags(spec_.rootfs_propagation)});
    return std::move(steps_);
  }

 private:
  void add(Step step) { steps_.push_back(std::move(step)); }

  /// The container has no mount namespace: all that it mounts lies on its root, which is bound onto itself in
  /// the caller's, so that it goes with that (oci_create.cc).
  bool shares_mounts() const { return spec_.find_namespace(spec::NamespaceKind::kMount) == nullptr; }

  bool in_user_namespace() const { return spec_.find_namespace(spec::NamespaceKind::kUser) != nullptr; }

  /// A mount of the spec covers `path` by itself.
  bool bound(std::string_view path) const {
    return std::ranges::any_of(spec_.mounts,
                               [&](const spec::Mount& mount) { return mount.destination == path; });
  }

  void plan_root() {
    unsigned long flags = spec::mount_flags(spec_.rootfs_propagation);
    // A slave still sees what the host mounts below a volume; nothing goes back. What is unbindable could not
    // become the root: that comes with the pivot.
    if ((flags & ~static_cast<unsigned long>(MS_REC)) == 0 || (flags & MS_UNBINDABLE) != 0) flags = MS_SLAVE;
    if (!shares_mounts()) add(SetPropagation{flags | MS_REC});
    if (!options_.fuse_root.empty())
      add(MountFuseRoot{options_.fuse_root});
    else
      add(BindRoot{absolute(spec_.root.path, options_.bundle), (flags & MS_SHARED) != 0});
    // The user, its home and the working directory are the image's own.
    if (!spec_.process.user.lookup.empty() || lacks_home()) add(ResolveUser{spec_.process.user.lookup});
  }

  bool lacks_home() const {
    return std::ranges::none_of(spec_.process.env,
                                [](const std::string& item) { return item.starts_with("HOME="); });
  }

  Result<void> plan_mount(const spec::Mount& mount) {
    auto parsed = parse_mount_options(mount.options, mount.type);
    if (!parsed) return with_context(parsed.error(), "mount", mount.destination);
    MountStep step = to_step(mount, *parsed);
    LAYERFS_TRY(plan_id_map(mount, *parsed, step));
    if (step.bind) {
      if (step.source.empty())
        return invalid_error("mount", mount.destination, "a bind mount needs a source");
      step.source = absolute(step.source, options_.bundle);
    } else if (mount.type.empty()) {
      return invalid_error("mount", mount.destination, "has no type");
    } else if (mount.type == "cgroup" || mount.type == "cgroup2") {
      plan_cgroup_mount(step);
      return {};
    } else if (mount.type == "sysfs") {
      // The kernel gives a new sysfs only to the owner of the network namespace.
      step.fallback_bind = "/sys";
    } else if (mount.type == "mqueue") {
      step.optional = true;
    } else if (mount.type == "devpts" && in_user_namespace() && !maps_id(spec_.gid_mappings, 5)) {
      step.data = remove_option(step.data, "gid=5");
    }
    if (step.source.empty()) step.source = step.type;
    // What has to be made in it (nodes of /dev, mount points, the working directory) is made first.
    if (step.type == "tmpfs" && (step.flags & MS_RDONLY) != 0) {
      step.flags &= ~static_cast<unsigned long>(MS_RDONLY);
      step.readonly_later = readonly_later_ = true;
    }
    add_mount_label(spec_, step);
    add(std::move(step));
    return {};
  }

  /// The mappings of an option, with what is relative to the container's ids made the host's.
  Result<std::vector<spec::IdMapping>> option_map(const std::vector<OptionIdMapping>& given,
                                                  const std::vector<spec::IdMapping>& container) const {
    std::vector<spec::IdMapping> map;
    for (const auto& item : given) {
      map.push_back(item.mapping);
      if (!item.relative) continue;
      auto host = find_host_id(container, item.mapping.host_id);
      if (!host)
        return invalid_error("option", "idmap",
                             "id " + std::to_string(item.mapping.host_id) + " is not in the container's map");
      map.back().host_id = *host;
    }
    return map;
  }

  Result<void> plan_id_map(const spec::Mount& mount, const MountOptions& options, MountStep& step) const {
    IdMapOption option = options.id_map;
    if (option == IdMapOption::kNone && mount.uid_mappings.empty()) return {};
    const char* field = mount.uid_mappings.empty() ? "option 'idmap'" : "'uidMappings'";
    auto because = [&](const char* reason) { return std::string(field) + ' ' + reason; };
    if (!step.bind) return unsupported_error("mount", mount.destination, because("needs a bind mount"));
    const spec::Namespace* user = spec_.find_namespace(spec::NamespaceKind::kUser);
    if (mount.uid_mappings.empty() && options.uid_map.empty() && user == nullptr)
      return invalid_error("mount", mount.destination,
                           because("needs 'uidMappings' and 'gidMappings', or a user namespace"));
    if (!host_.privileged)
      return unsupported_error("mount", mount.destination, because("needs root: ids are the host's"));
    MountIdMap map{option == IdMapOption::kTree, mount.uid_mappings, mount.gid_mappings, {}};
    if (map.uids.empty() && !options.uid_map.empty()) {
      LAYERFS_ASSIGN(map.uids, option_map(options.uid_map, spec_.uid_mappings));
      LAYERFS_ASSIGN(map.gids, option_map(options.gid_map, spec_.gid_mappings));
    } else if (map.uids.empty() && user->path.empty()) {
      map.uids = spec_.uid_mappings;
      map.gids = spec_.gid_mappings;
    } else if (map.uids.empty()) {
      map.user_namespace = user->path;
    }
    step.id_map = std::move(map);
    return {};
  }

  void plan_cgroup_mount(MountStep step) {
    bool own_namespace = spec_.find_namespace(spec::NamespaceKind::kCgroup) != nullptr;
    const CgroupHierarchy* unified = host_.cgroups.find_unified();
    if (step.type == "cgroup2" || host_.cgroups.unified_only()) {
      step.type = "cgroup2";
      step.source = "cgroup";
      step.fallback_bind = unified == nullptr ? "/sys/fs/cgroup" : unified->mount_point;
      if (!own_namespace) bind_instead(step, step.fallback_bind);
      add(std::move(step));
      return;
    }
    MountStep base = step;
    base.type = base.source = "tmpfs";
    base.flags = (base.flags | MS_NOSUID | MS_NODEV | MS_NOEXEC) & ~static_cast<unsigned long>(MS_RDONLY);
    base.data = "mode=755";
    add_mount_label(spec_, base);
    add(base);
    for (const auto& hierarchy : host_.cgroups.hierarchies) {
      MountStep one = step;
      std::string name = base_name(hierarchy.mount_point);
      one.target = step.target + '/' + name;
      one.type = hierarchy.unified ? "cgroup2" : "cgroup";
      one.source = "cgroup";
      one.data.clear();
      for (const auto& controller : hierarchy.controllers)
        one.data += (one.data.empty() ? "" : ",") + controller;
      if (!hierarchy.unified && hierarchy.controllers.front().starts_with("name="))
        one.data = "none," + one.data;
      one.fallback_bind = hierarchy.mount_point;
      if (!own_namespace) bind_instead(one, hierarchy.mount_point + own_group(hierarchy));
      add(std::move(one));
      if (hierarchy.controllers.size() < 2) continue;
      for (const auto& controller : hierarchy.controllers)
        add(LinkStep{step.target + '/' + controller, name});
    }
    if ((step.flags & MS_RDONLY) != 0) add(ReadonlyStep{step.target});
  }

  /// v1 without a cgroup namespace: the container sees its own groups and not the host's, as engines expect.
  /// "" where it has none, or where making it may fail with a mere warning.
  std::string own_group(const CgroupHierarchy& hierarchy) const {
    auto same = [&](const CgroupGroup& group) { return group.hierarchy == hierarchy; };
    if (options_.cgroup_mode != CgroupMode::kRequired || std::ranges::none_of(cgroup_.groups, same))
      return {};
    if (cgroup_.path.starts_with('/')) return cgroup_.path;
    return (hierarchy.own_path == "/" ? "" : hierarchy.own_path) + '/' + cgroup_.path;
  }

  static void bind_instead(MountStep& step, const std::string& source) {
    step.bind = true;
    step.source = source;
    step.type.clear();
    step.data.clear();
    step.fallback_bind.clear();
  }

  Result<void> plan_devices() {
    // A host's /dev bound in has its own nodes, and they are not ours to change.
    bool host_dev = std::ranges::any_of(spec_.mounts, [](const spec::Mount& mount) {
      return mount.destination == "/dev" &&
             (mount.type == "bind" || std::ranges::find(mount.options, "rbind") != mount.options.end() ||
              std::ranges::find(mount.options, "bind") != mount.options.end());
    });
    if (host_dev) return {};
    struct Default {
      const char* path;
      unsigned major;
      unsigned minor;
    };
    constexpr std::array<Default, 6> kDefaults{{{"/dev/null", 1, 3},
                                                {"/dev/zero", 1, 5},
                                                {"/dev/full", 1, 7},
                                                {"/dev/random", 1, 8},
                                                {"/dev/urandom", 1, 9},
                                                {"/dev/tty", 5, 0}}};
    for (const auto& device : kDefaults) {
      auto same = [&](const spec::Device& own) { return own.path == device.path; };
      if (std::ranges::any_of(spec_.devices, same) || bound(device.path)) continue;
      add(DeviceStep{device.path, default_making(), S_IFCHR | 0666, makedev(device.major, device.minor), 0,
                     0});
    }
    for (const auto& device : spec_.devices) LAYERFS_TRY(plan_device(device));
    for (const auto& [path, target] :
         {std::pair{"/dev/fd", "/proc/self/fd"}, std::pair{"/dev/stdin", "/proc/self/fd/0"},
          std::pair{"/dev/stdout", "/proc/self/fd/1"}, std::pair{"/dev/stderr", "/proc/self/fd/2"}})
      add(LinkStep{path, target});
    if (bound("/dev/pts")) add(LinkStep{"/dev/ptmx", "pts/ptmx"});
    return {};
  }

  /// Nodes are made only where a device cgroup keeps the container to them: a container with CAP_MKNOD on a
  /// file system without nodev would make any other. Bound ones work on nodev mounts.
  DeviceMaking default_making() const {
    bool guarded = !spec_.resources.devices.empty() && options_.cgroup_mode != CgroupMode::kDisabled;
    return host_.privileged && host_.host_root && !in_user_namespace() && guarded ? DeviceMaking::kNode
                                                                                  : DeviceMaking::kBind;
  }

  Result<void> plan_device(const spec::Device& device) {
    DeviceStep step;
    step.path = device.path;
    // One that the configuration lists is made as it says, which need not be as the host has it.
    bool may_make = host_.privileged && host_.host_root && !in_user_namespace();
    step.making = device.type == 'p' || may_make ? DeviceMaking::kNode : DeviceMaking::kBind;
    mode_t kind = device.type == 'b' ? S_IFBLK : device.type == 'p' ? S_IFIFO : S_IFCHR;
    step.mode = kind | (device.file_mode.value_or(0666) & 07777);
    if (device.type != 'p')
      step.rdev = makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
    step.uid = device.uid.value_or(0);
    step.gid = device.gid.value_or(0);
    if (step.making == DeviceMaking::kBind && host_.privileged && host_.host_root &&
        !spec_.uid_mappings.empty()) {
      step.making = DeviceMaking::kCreator;
      auto uid = find_host_id(spec_.uid_mappings, step.uid);
      auto gid = find_host_id(spec_.gid_mappings, step.gid);
      if (!uid || !gid)
        return invalid_error("field", "linux.devices",
                             "the owner of '" + device.path + "' is not in the user namespace's map");
      step.uid = *uid;
      step.gid = *gid;
    }
    add(step);
    return {};
  }

  void plan_identity() {
    if (!spec_.hostname.empty()) add(SetHostname{spec_.hostname});
    if (!spec_.domainname.empty()) add(SetDomainname{spec_.domainname});
    if (spec_.makes(spec::NamespaceKind::kNetwork)) add(LoopbackUp{});
    if (spec_.process.cwd != "/") add(MakeDirectory{spec_.process.cwd});
  }

  /// "net.ipv4.ip_forward" and "net/ipv4/ip_forward" are the same (sysctl(8)): the first separator decides.
  static std::string sysctl_path(const std::string& key) {
    std::size_t first = key.find_first_of("./");
    if (first == std::string::npos || key[first] == '/') return key;
    std::string path = key;
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
    return path;
  }

  const spec::ContainerSpec& spec_;
  const HostFacts& host_;
  const PlanOptions& options_;
  const CgroupPlan& cgroup_;
  std::vector<Step> steps_;
  bool readonly_later_ = false;  // some mount is made so
};

}  // namespace

Result<std::vector<Step>> plan_rootfs(const spec::ContainerSpec& spec, const HostFacts& host,
                                      const PlanOptions& options, const CgroupPlan& cgroup) {
  return RootfsPlanner(spec, host, options, cgroup).plan();
}

}  // namespace layerfs::plan
