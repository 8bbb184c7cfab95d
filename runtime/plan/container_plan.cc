// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/container_plan.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <tuple>
#include <unordered_map>

#include "runtime/plan/rootfs_plan.h"
#include "runtime/plan/security_label.h"

namespace layerfs::plan {

namespace {

constexpr std::array<std::pair<std::string_view, int>, 16> kRlimits{{
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
}};

/// Joining order: the user namespace first, since it gives the right to join the others; the mount namespace
/// last but one, since paths of the others are the host's; pid only counts for children (setns(2)).
constexpr std::array kJoinOrder{spec::NamespaceKind::kUser, spec::NamespaceKind::kIpc,
                                spec::NamespaceKind::kUts,  spec::NamespaceKind::kNetwork,
                                spec::NamespaceKind::kPid,  spec::NamespaceKind::kCgroup,
                                spec::NamespaceKind::kTime, spec::NamespaceKind::kMount};

void plan_namespaces(const spec::ContainerSpec& spec, ContainerPlan& plan) {
  for (auto kind : kJoinOrder) {
    const spec::Namespace* entry = spec.find_namespace(kind);
    if (entry == nullptr) continue;
    if (!entry->path.empty())
      plan.joins.push_back(*entry);
    else if (kind != spec::NamespaceKind::kCgroup)  // made by the init, once it is in its group
      plan.clone_flags |= spec::clone_flag(kind);
  }
}

Result<void> check_ids(const spec::User& user, const IdMapPlan& ids) {
  if (ids.writer == MapWriter::kNone || !user.lookup.empty()) return {};
  if (!maps_id(ids.uids, user.uid))
    return invalid_error("field", "process.user.uid",
                         std::to_string(user.uid) + " is not in the user namespace's map");
  if (!maps_id(ids.gids, user.gid))
    return invalid_error("field", "process.user.gid",
                         std::to_string(user.gid) + " is not in the user namespace's map");
  return {};
}

Result<void> check_cgroup_devices(const spec::ContainerSpec& spec, const HostFacts& host,
                                  const PlanOptions& options) {
  bool wanted = !spec.resources.devices.empty() && host.privileged && host.host_root &&
                spec.find_namespace(spec::NamespaceKind::kUser) == nullptr &&
                options.cgroup_mode != CgroupMode::kDisabled;
  if (wanted && host.cgroups.find_v1("devices") == nullptr && host.cgroups.find_unified() == nullptr)
    return unsupported_error("field", "linux.resources.devices", "the host has no cgroups of devices");
  return {};
}

/// Those of v2, where there is nothing else.
std::vector<CgroupWrite> limits_of(const CgroupPlan& plan) {
  return plan.groups.empty() ? std::vector<CgroupWrite>() : plan.groups.front().writes;
}

Result<void> plan_limits(const spec::ContainerSpec& spec, const HostFacts& host, const PlanOptions& options,
                         ContainerPlan& plan) {
  if (options.cgroup_mode == CgroupMode::kDisabled) {
    if (spec.resources.has_limits())
      return invalid_error("field", "linux.resources", "cannot be set with cgroups disabled");
    return {};
  }
  LAYERFS_TRY(check_cgroup_devices(spec, host, options));
  std::string path = spec.cgroups_path.empty() ? options.cgroup_name : spec.cgroups_path;
  bool by_systemd = options.cgroup_manager == CgroupManager::kSystemd;
  if (path.empty() && !by_systemd) return {};
  if (by_systemd && !host.cgroups.unified_only())
    return unsupported_error("cgroup manager", "systemd", "needs cgroup v2, without controllers of v1");
  spec::Resources resources = spec.resources;
  // Without the host's privilege device nodes cannot be made at all, and the controller is not delegated.
  if (!host.privileged || !host.host_root || spec.find_namespace(spec::NamespaceKind::kUser) != nullptr)
    resources.devices.clear();
  if (!by_systemd) {
    LAYERFS_ASSIGN(plan.cgroup, plan_cgroup(resources, host.cgroups, path, options.cgroup_extent));
    return {};
  }
  LAYERFS_ASSIGN(ScopeName name, parse_scope_name(spec.cgroups_path, options.cgroup_name,
                                                  host.host_root ? "system.slice" : "user.slice"));
  LAYERFS_ASSIGN(plan.cgroup, plan_cgroup(resources, host.cgroups, {}, CgroupExtent::kNeeded));
  LAYERFS_ASSIGN(plan.scope, plan_scope(name, limits_of(plan.cgroup), spec.annotations));
  return {};
}

}  // namespace

std::vector<std::string> unique_env(const std::vector<std::string>& env) {
  std::vector<std::string> list;
  std::unordered_map<std::string_view, std::size_t> places;
  for (const auto& item : env) {
    auto [place, is_new] = places.try_emplace(std::string_view(item).substr(0, item.find('=')), list.size());
    if (is_new)
      list.push_back(item);
    else
      list[place->second] = item;
  }
  return list;
}

std::optional<int> find_rlimit(std::string_view name) {
  for (const auto& [text, number] : kRlimits)
    if (text == name) return number;
  return std::nullopt;
}

Result<std::vector<unsigned>> parse_number_list(std::string_view text, std::string_view field) {
  constexpr unsigned kHighest = 65535;
  std::set<unsigned> numbers;
  auto wrong = [&] {
    return invalid_error("field", field, "is no list of numbers: '" + std::string(text) + "'");
  };
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    while (item.starts_with(' ')) item.remove_prefix(1);
    unsigned first = 0;
    const char* end = item.data() + item.size();
    auto [at, code] = std::from_chars(item.data(), end, first);
    unsigned last = first;
    if (code == std::errc{} && at != end && *at == '-')
      std::tie(at, code) = [&] {
        auto second = std::from_chars(at + 1, end, last);
        return std::pair(second.ptr, second.ec);
      }();
    if (code != std::errc{} || at != end || last < first || last > kHighest) return wrong();
    for (unsigned number = first; number <= last; ++number) numbers.insert(number);
  }
  return std::vector<unsigned>(numbers.begin(), numbers.end());
}

Result<ProcessPlan> plan_process(const spec::Process& process, const HostFacts& host) {
  ProcessPlan plan;
  plan.args = process.args;
  plan.env = unique_env(process.env);
  plan.cwd = process.cwd;
  plan.uid = process.user.uid;
  plan.gid = process.user.gid;
  plan.additional_gids = process.user.additional_gids;
  plan.umask = process.user.umask.value_or(0022);
  plan.last_capability = host.last_capability;
  plan.no_new_privileges = process.no_new_privileges;
  plan.oom_score_adj = process.oom_score_adj;
  plan.terminal = process.terminal;
  plan.scheduler = process.scheduler;
  plan.io_priority = process.io_priority;
  LAYERFS_ASSIGN(plan.initial_cpus,
                 parse_number_list(process.initial_cpus, "process.execCPUAffinity.initial"));
  LAYERFS_ASSIGN(plan.final_cpus, parse_number_list(process.final_cpus, "process.execCPUAffinity.final"));
  if (process.args.empty()) return invalid_error("field", "process.args", "is empty");
  LAYERFS_TRY(plan_process_labels(process, host, plan));
  if (process.capabilities) {
    plan.capabilities = plan_capabilities(*process.capabilities, host.last_capability);
    // A kernel or a runtime that is older than the engine (runtime-spec, config.md, "capabilities").
    for (const auto& name : unknown_capabilities(*process.capabilities))
      plan.warnings.push_back("field 'process.capabilities': '" + name + "' is not known and left out");
  }
  for (const auto& limit : process.rlimits) {
    auto number = find_rlimit(limit.type);
    if (!number) return invalid_error("field", "process.rlimits", "'" + limit.type + "' is no limit");
    plan.rlimits.push_back({*number, limit.soft, limit.hard, limit.type});
  }
  return plan;
}

Result<void> plan_inherited(const spec::ContainerSpec& spec, ProcessPlan& plan) {
  plan.personality = spec.personality;
  if (!spec.memory_policy) return {};
  MemoryPolicyPlan policy;
  policy.mode = spec.memory_policy->mode;
  LAYERFS_ASSIGN(policy.nodes, parse_number_list(spec.memory_policy->nodes, "linux.memoryPolicy.nodes"));
  plan.memory_policy = std::move(policy);
  return {};
}

Result<ContainerPlan> plan_container(const spec::ContainerSpec& spec, const HostFacts& host,
                                     const PlanOptions& options) {
  ContainerPlan plan;
  plan_namespaces(spec, plan);
  plan.ids = plan_id_maps(spec.uid_mappings, spec.gid_mappings, host.privileged, host.uid, host.gid);
  LAYERFS_TRY(check_ids(spec.process.user, plan.ids));
  LAYERFS_TRY(check_mount_label(spec, host));
  LAYERFS_TRY(plan_limits(spec, host, options, plan));
  LAYERFS_ASSIGN(plan.steps, plan_rootfs(spec, host, options, plan.cgroup));
  LAYERFS_ASSIGN(plan.process, plan_process(spec.process, host));
  plan.process.seccomp = spec.seccomp;
  plan.process.use_init = options.use_init;
  // crun(1): the caller's supplementary groups stay, as Podman's --group-add keep-groups asks.
  auto keep = spec.annotations.find("run.oci.keep_original_groups");
  bool keep_groups = keep != spec.annotations.end() && keep->second != "0" && keep->second != "false";
  if (keep_groups && !spec.process.user.additional_gids.empty())
    return invalid_error("field", "process.user.additionalGids",
                         "cannot be had with the annotation 'run.oci.keep_original_groups'");
  plan.process.set_groups = !plan.ids.deny_setgroups && !keep_groups;
  if (plan.ids.deny_setgroups && !spec.process.user.additional_gids.empty())
    return unsupported_error("field", "process.user.additionalGids", "this user namespace denies setgroups");
  plan.hooks = spec.hooks;
  if (!spec.net_devices.empty() && !host.privileged)
    return unsupported_error("field", "linux.netDevices", "needs root: an interface of the host's is moved");
  plan.net_devices = spec.net_devices;
  if (spec.intel_rdt) {
    LAYERFS_ASSIGN(plan.resctrl, plan_resctrl(*spec.intel_rdt, host.resctrl, options.container_id));
  }
  // Of a process that exec adds only (runtime-spec, config.md, "execCPUAffinity").
  plan.process.initial_cpus.clear();
  plan.process.final_cpus.clear();
  LAYERFS_TRY(plan_inherited(spec, plan.process));
  for (const auto& offset : spec.time_offsets)
    plan.time_offsets +=
        offset.clock + ' ' + std::to_string(offset.seconds) + ' ' + std::to_string(offset.nanoseconds) + '\n';
  return plan;
}

}  // namespace layerfs::plan
