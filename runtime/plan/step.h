// SPDX-License-Identifier: Apache-2.0
// What a container's init does in its new namespaces, as values and in order. container/run_steps.h executes
// them.
//
// (1) Paths of targets are inside the container's root and are resolved there, never by the host's links.
// (2) Every step before Pivot sees the host's file system as it was; none after it needs it.
// (3) Everything that mounts comes before Pivot, so that no step depends on the container's own /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// A new cgroup namespace: after the init was put into its cgroup, which becomes the root.
struct UnshareCgroup {
  bool operator==(const UnshareCgroup&) const = default;
};

/// Cuts the new mount namespace off from the host's: nothing mounted below gets out.
struct SetPropagation {
  unsigned long flags = 0;
  bool operator==(const SetPropagation&) const = default;
};

/// The root is a FUSE mount: /dev/fuse is opened here, in the user namespace that owns the mount, and passed
/// on.
struct MountFuseRoot {
  std::string directory;  ///< on the host
  bool operator==(const MountFuseRoot&) const = default;
};

/// The root is a directory of the host: bound onto itself, as pivot_root needs a mount point.
struct BindRoot {
  std::string directory;
  /// The mount on which it lies is made private first, in this namespace: what is shared would show the
  /// root's mount to the host, and pivot_root(2) refuses it.
  bool isolate = false;
  bool operator==(const BindRoot&) const = default;
};

/// A bind mount shows the ids of its source as others (mount_setattr(2), MOUNT_ATTR_IDMAP).
struct MountIdMap {
  bool recursive = false;
  std::vector<spec::IdMapping> uids;
  std::vector<spec::IdMapping> gids;
  std::string user_namespace;  ///< whose map it is, in place of the two
  bool operator==(const MountIdMap&) const = default;
};

struct MountStep {
  std::string target;
  std::string source;  ///< a host path where `bind`
  std::string type;
  unsigned long flags = 0;        ///< MS_*
  unsigned long clear_flags = 0;  ///< MS_* to take away from a bind mount
  std::string data;
  bool bind = false;
  bool recursive = false;
  bool copy_up = false;
  bool owned_by_user = false;   ///< a bind mount's source becomes the process's user's, with all below it
  bool readonly_later = false;  ///< ReadonlyMounts makes it read-only
  std::uint64_t recursive_set = 0;
  std::uint64_t recursive_clear = 0;
  std::vector<unsigned long> propagation;
  std::string fallback_bind;  ///< a host directory to bind where the kernel refuses the mount with EPERM
  bool optional = false;      ///< skipped where the kernel lacks it (ENODEV)
  std::string label;          ///< of SELinux, set on the new mount's root; empty: as it is
  std::optional<MountIdMap> id_map;  ///< the creator, who may do so, makes the mount
  bool operator==(const MountStep&) const = default;
};

/// A symbolic link; one that is there already is left alone.
struct LinkStep {
  std::string path;
  std::string target;
  bool operator==(const LinkStep&) const = default;
};

enum class DeviceMaking : std::uint8_t {
  kBind,  ///< the host's node, bound: needs no privilege and works on nodev mounts
  kNode,  ///< mknod(2)
  /// A node that the creator makes, who may, bound; where the kernel cannot do that (before 6.15), as kBind.
  /// The ids are the host's.
  kCreator,
};
struct DeviceStep {
  std::string path;
  DeviceMaking making = DeviceMaking::kBind;
  mode_t mode = 0;  ///< type and permissions
  std::uint64_t rdev = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool operator==(const DeviceStep&) const = default;
};

/// A terminal from the container's own devpts, bound to /dev/console; its master goes to the creator.
struct ConsoleStep {
  std::uint16_t height = 0;
  std::uint16_t width = 0;
  bool bind_console = true;
  bool operator==(const ConsoleStep&) const = default;
};

/// Hides a path: /dev/null over a file, an empty read-only directory over a directory. Absent is fine.
struct MaskStep {
  std::string path;
  bool operator==(const MaskStep&) const = default;
};
/// Makes a path read-only. Absent is fine.
struct ReadonlyStep {
  std::string path;
  bool operator==(const ReadonlyStep&) const = default;
};
/// Makes every mount read-only that was made with `readonly_later`: the mounts themselves, whatever their paths
/// lead to by now.
struct ReadonlyMounts {
  bool operator==(const ReadonlyMounts&) const = default;
};
struct ReadonlyRoot {
  bool operator==(const ReadonlyRoot&) const = default;
};

/// Writes /proc/sys; `key` with slashes.
struct SysctlStep {
  std::string key;
  std::string value;
  bool operator==(const SysctlStep&) const = default;
};

/// The creator runs createRuntime and prestart hooks now.
struct RuntimeHooks {
  bool operator==(const RuntimeHooks&) const = default;
};
/// createContainer hooks, here.
struct ContainerHooks {
  bool operator==(const ContainerHooks&) const = default;
};

enum class PivotKind : std::uint8_t {
  kPivot,
  kMoveAndChroot,
  kChroot,  ///< in the caller's own mount namespace, whose root stays as it is
};
struct Pivot {
  PivotKind kind = PivotKind::kPivot;
  unsigned long propagation = 0;  ///< of the new root (linux.rootfsPropagation); 0: as it is
  bool operator==(const Pivot&) const = default;
};

struct SetHostname {
  std::string name;
  bool operator==(const SetHostname&) const = default;
};
struct SetDomainname {
  std::string name;
  bool operator==(const SetDomainname&) const = default;
};
/// Brings the loopback interface of a new network namespace up.
struct LoopbackUp {
  bool operator==(const LoopbackUp&) const = default;
};
/// Makes a directory with its missing parents.
struct MakeDirectory {
  std::string path;
  bool operator==(const MakeDirectory&) const = default;
};
/// Looks `user` up in the root's /etc/passwd and /etc/group and puts what is found into the process.
struct ResolveUser {
  std::string user;
  bool operator==(const ResolveUser&) const = default;
};

using Step =
    std::variant<UnshareCgroup, SetPropagation, MountFuseRoot, BindRoot, MountStep, LinkStep, DeviceStep,
                 ConsoleStep, MaskStep, ReadonlyStep, ReadonlyMounts, ReadonlyRoot, SysctlStep, RuntimeHooks,
                 ContainerHooks, Pivot, SetHostname, SetDomainname, LoopbackUp, MakeDirectory, ResolveUser>;

/// "mount '/proc'": what an error of the step begins with.
std::string describe(const Step& step);

}  // namespace layerfs::plan
