// SPDX-License-Identifier: Apache-2.0
// ContainerPlan: a ContainerSpec turned into what will be done on this host, in order. Pure: facts about the
// host are an argument, so that every decision is tested as a value.
//
// (1) The init is born in the new namespaces (clone3); those with a path are joined first.
// (2) Limits, id maps and the cgroup are the creator's work, everything in `steps` the init's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "runtime/plan/capability_set.h"
#include "runtime/plan/cgroup_plan.h"
#include "runtime/plan/id_map.h"
#include "runtime/plan/resctrl_plan.h"
#include "runtime/plan/step.h"
#include "runtime/plan/systemd_scope.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

enum class AppArmorState : std::uint8_t {
  kAbsent,      ///< the kernel does not have it, or has it turned off
  kUnconfined,  ///< it has, and the caller has no profile
  kConfined,
};

struct HostFacts {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool privileged = false;  ///< CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID in the caller's user namespace
  bool host_root =
      false;  ///< root, and of the first user namespace: only it makes devices; systemd's is the system's
  /// The caller as the first user namespace has it, where the caller's maps itself.
  std::uint32_t host_uid = 0;
  unsigned last_capability = 40;
  CgroupLayout cgroups;
  AppArmorState apparmor = AppArmorState::kAbsent;
  bool selinux = false;
  std::string resctrl;      ///< where it is mounted; empty: nowhere
  unsigned processors = 0;  ///< that the machine may have: cpu0... in /sys/devices/system/cpu
};

enum class CgroupMode : std::uint8_t {
  kRequired,  ///< a limit that cannot be set is an error
  kEnabled,   ///< ... a warning
  kDisabled,  ///< no group is made
};

/// Who makes the group.
enum class CgroupManager : std::uint8_t { kFiles, kSystemd };

struct PlanOptions {
  std::string bundle;     ///< relative paths of the spec start here
  std::string fuse_root;  ///< the root is a FUSE mount on this directory; empty: spec.root.path
  bool no_pivot = false;
  bool use_init = false;  ///< the first process is our init and the program its child
  std::string container_id;
  std::string cgroup_name;  ///< where the spec has no cgroupsPath; empty: no group
  CgroupExtent cgroup_extent = CgroupExtent::kNeeded;
  CgroupMode cgroup_mode = CgroupMode::kEnabled;
  CgroupManager cgroup_manager = CgroupManager::kFiles;
};

struct RlimitPlan {
  int resource = 0;  ///< RLIMIT_NOFILE... (getrlimit(2))
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
  std::string name;
  bool operator==(const RlimitPlan&) const = default;
};

struct MemoryPolicyPlan {
  int mode = 0;
  std::vector<unsigned> nodes;
};

/// What the final stage makes of itself before it becomes the program.
struct ProcessPlan {
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;
  bool set_groups = true;  ///< false where the user namespace denies setgroups(2)
  std::uint32_t umask = 0022;
  std::optional<CapabilitySets> capabilities;
  unsigned last_capability = 40;
  std::vector<RlimitPlan> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
  std::optional<unsigned long> personality;
  std::optional<spec::Scheduler> scheduler;
  std::optional<spec::IoPriority> io_priority;
  std::optional<MemoryPolicyPlan> memory_policy;
  std::vector<unsigned> initial_cpus;  ///< of an exec; empty: as they are
  std::vector<unsigned> final_cpus;
  std::optional<spec::Seccomp> seccomp;
  std::string apparmor_change;  ///< for attr/apparmor/exec (proc(5)): "exec PROFILE"; empty: as it is
  std::string selinux_label;    ///< for attr/exec; empty: as it is
  bool terminal = false;
  bool use_init = false;
  std::vector<std::string> warnings;  ///< of what is left out though the configuration names it
};

struct ContainerPlan {
  std::vector<spec::Namespace> joins;  ///< in the order of joining; user first
  std::uint64_t clone_flags = 0;
  IdMapPlan ids;
  CgroupPlan cgroup;
  std::optional<ScopePlan> scope;  ///< systemd makes the group; `cgroup` says what is written into it
  std::vector<Step> steps;
  ProcessPlan process;
  spec::Hooks hooks;
  std::string time_offsets;  ///< lines of timens_offsets; empty: none
  std::vector<spec::NetDevice> net_devices;
  std::optional<ResctrlPlan> resctrl;
};

/// Errors: kInvalid, kUnsupported naming the field.
Result<ContainerPlan> plan_container(const spec::ContainerSpec& spec, const HostFacts& host,
                                     const PlanOptions& options);
/// The part of a process alone, for `exec` in a container that runs. `ids`: the container's mappings.
Result<ProcessPlan> plan_process(const spec::Process& process, const HostFacts& host);

/// What a process of the container has besides its own settings: personality and memory policy.
Result<void> plan_inherited(const spec::ContainerSpec& spec, ProcessPlan& plan);
/// "0-3,7" -> 0, 1, 2, 3, 7, in order and each once. Errors: kInvalid naming `field`.
Result<std::vector<unsigned>> parse_number_list(std::string_view text, std::string_view field);
/// Of a name that is there more than once the last value, once, where the first stood: getenv(3) would find
/// the first and a shell the last. Engines append.
std::vector<std::string> unique_env(const std::vector<std::string>& env);
/// "RLIMIT_NOFILE" -> RLIMIT_NOFILE.
std::optional<int> find_rlimit(std::string_view name);

}  // namespace layerfs::plan
