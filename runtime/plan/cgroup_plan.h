// SPDX-License-Identifier: Apache-2.0
// Where the host's cgroups are (cgroups(7): v1, v2, and the hybrid of both), and what is written for a
// container's limits, as values. Pure: the texts of /proc are arguments.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/mount_info.h"
#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// One mounted hierarchy.
struct CgroupHierarchy {
  bool unified = false;                  ///< cgroup2
  std::vector<std::string> controllers;  ///< v1: those of the mount; "name=systemd" for a named one
  std::string mount_point;
  std::string own_path;  ///< where the caller is, below mount_point: "/", "/user.slice/..."
  bool operator==(const CgroupHierarchy&) const = default;
};

struct CgroupLayout {
  std::vector<CgroupHierarchy> hierarchies;
  /// No v1 controller is mounted: everything is set through cgroup2.
  bool unified_only() const;
  const CgroupHierarchy* find_v1(std::string_view controller) const;
  const CgroupHierarchy* find_unified() const;
};

/// From /proc/self/mountinfo and the text of /proc/self/cgroup, of which lines of another form are skipped.
CgroupLayout parse_cgroup_layout(const std::vector<MountEntry>& mounts, std::string_view self_cgroup);

struct CgroupWrite {
  std::string file;
  std::string value;
  std::string field;            ///< of config.json, for the message
  bool optional = false;        ///< a file that this kernel lacks is skipped
  std::string other_file = {};  ///< to be written where there is no `file`
  std::string other_value = {};
  bool operator==(const CgroupWrite&) const = default;
};

/// The container's group in one hierarchy.
struct CgroupGroup {
  CgroupHierarchy hierarchy;
  std::vector<std::string> controllers;  ///< to be enabled for it (v2)
  /// v2: the others too, where they can be: what is asked for later has its files, and what reads them its
  /// numbers.
  bool every_controller = false;
  std::vector<CgroupWrite> writes;       ///< in order, before a process is in it
  std::vector<bpf_insn> device_program;  ///< device_program.h (v2); empty: none
};

struct CgroupPlan {
  /// "/a/b": from the hierarchy's root. "layerfs-ID": below the caller's own group, or (v2, where groups with
  /// processes cannot have limited children) beside it.
  std::string path;
  std::vector<CgroupGroup> groups;
  std::vector<std::string> warnings;  ///< of limits that are left out though the configuration sets them
};

enum class CgroupExtent : std::uint8_t {
  kNeeded,  ///< a group only where something is limited: joining one costs milliseconds
  kAll,     ///< a group in every hierarchy, as engines expect of an OCI runtime
};

/// Errors: kUnsupported naming the field where no mounted hierarchy can set it.
Result<CgroupPlan> plan_cgroup(const spec::Resources& resources, const CgroupLayout& layout,
                               const std::string& path, CgroupExtent extent);

/// The groups of a container that has a file system server beside it (RUN.md):
///
///   whole            what the limits of memory and the weight against other groups hold for
///     container      the container's processes: all its limits
///     files          the server: the same limits of disks and the same weight, no quota of processor time
struct ServedCgroupPlan {
  CgroupPlan whole;
  CgroupPlan container;  ///< its path is one below that of `whole`, as the server's
  CgroupPlan files;      ///< in those hierarchies alone whose limits are the server's, too
};
/// `container` as the groups of both. Nullopt where none of its limits concerns the server.
std::optional<ServedCgroupPlan> plan_served_cgroup(const CgroupPlan& container);
/// The limits of memory that `plan` writes, taken away.
CgroupPlan plan_without_memory_limit(const CgroupPlan& plan);

/// cpu.weight of cgroup v2 for cpu.shares of v1, as crun 1.23 and runc 1.3 convert them: 1024 is 100.
std::uint64_t cpu_weight(std::uint64_t shares);
/// "c 1:3 rwm": a line of devices.allow (v1).
std::string device_line(const spec::DeviceRule& rule);

}  // namespace layerfs::plan
