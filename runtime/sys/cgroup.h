// SPDX-License-Identifier: Apache-2.0
// A container's groups in the host's cgroup hierarchies (cgroups(7)): made, written, joined, read and
// removed.
//
// (1) Limits are written before a process is in the group.
// (2) What create() made is removed again where it fails half-way.
// (3) A group that was there before is never removed by create()'s clean-up.
#pragma once

#include <linux/bpf.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::sys {

struct CgroupSetting {
  std::string file;
  std::string value;
  std::string field;            ///< what a message calls it
  bool optional = false;        ///< a file that this kernel lacks is skipped
  std::string other_file = {};  ///< to be written where there is no `file`
  std::string other_value = {};
};

struct CgroupRequest {
  std::string mount_point;
  std::string own_path;  ///< the caller's group
  bool unified = false;
  bool cpuset = false;                   ///< v1: needs cpuset.cpus and cpuset.mems before a process may join
  std::vector<std::string> controllers;  ///< v2: enabled on the way down
  bool every_controller = false;         ///< v2: the others too, where nothing stands against it
  std::vector<CgroupSetting> settings;
  std::vector<bpf_insn> device_program;  ///< v2; empty: none
};

/// The directories of a container, one a hierarchy. A value: destroying it removes nothing.
class CgroupDirs {
 public:
  CgroupDirs() = default;
  explicit CgroupDirs(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  /// Makes a group for each request and writes its settings. `path`: absolute, from the root of the
  /// hierarchy; else a name below the caller's group, or (v2) below the nearest ancestor that can have
  /// limited children. Errors: EACCES, EROFS... naming the group; the kernel's answer to a setting or a
  /// device program, naming its field.
  static Result<CgroupDirs> create(const std::vector<CgroupRequest>& requests, const std::string& path);

  /// The same for groups `name` right below these, in the hierarchies of `requests`, which these are in, too.
  Result<CgroupDirs> create_below(const std::vector<CgroupRequest>& requests, const std::string& name) const;

  /// Writes the settings of `requests` to the groups that are there. What the kernel refuses as it stands
  /// (EINVAL: memory above memory plus swap, a quota below its period) is tried again after what follows it.
  /// Errors: kUnsupported naming the field where the container has no group in that hierarchy.
  Result<void> update(const std::vector<CgroupRequest>& requests) const;
  /// The text of `file` in every group that has it, one after the other: v1 and v2 have files of one name.
  std::string text_of(const std::string& file) const;

  bool empty() const { return paths_.empty(); }
  const std::vector<std::string>& paths() const { return paths_; }
  /// Moves a process in. A group below one that has processes (v2: "domain invalid", cgroups(7)), which no
  /// process could join, becomes a threaded one before: it has limits of processes and cpu, and no others.
  Result<void> add(pid_t pid) const;
  /// Every process of the groups, and of groups below them.
  Result<std::vector<pid_t>> processes() const;
  /// SIGKILL to every process of the groups, and of groups below them, until none is left: at once where the
  /// kernel can (cgroup.kill, v2 since Linux 5.14), else again while there are new ones. What is stopped by
  /// v1's freezer dies when it is thawed. Errors: EPERM.
  Result<void> kill_all() const;
  /// Kills by the kernel for lack of memory so far; nullopt where no group counts them.
  std::optional<std::uint64_t> out_of_memory_kills() const;
  /// Freezes, and waits a moment until all are, or thaws. Errors: kUnsupported without a freezer.
  enum class State : std::uint8_t { kFrozen, kThawed };
  Result<void> set_state(State state) const;
  /// Whether it is frozen now; false without a freezer.
  bool is_frozen() const;
  /// Moves a process that is to die, and that somebody has put elsewhere, into the container's own group of
  /// v1's freezer: one that is moved into a thawed group is thawed, and nobody else's group is changed. Where
  /// it is there already, is gone or there is no such group, nothing happens.
  void take_from_freezers(pid_t pid) const;
  /// Removes the groups and those below them. Waits a moment for processes that are just going. Errors:
  /// EBUSY.
  Result<void> remove() const;

 private:
  /// Null where there is none.
  const std::string* find_in(const CgroupRequest& request) const;

  std::vector<std::string> paths_;
};

}  // namespace layerfs::sys
