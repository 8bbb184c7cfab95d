// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/container_spec.h"

#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>

namespace layerfs::spec {

namespace {

struct NamespaceName {
  NamespaceKind kind;
  std::string_view text;
  std::string_view proc;
  std::uint64_t flag;
};

constexpr std::uint64_t kCloneNewTime = 0x80;  // CLONE_NEWTIME (clone(2)); glibc 2.36 has it, older do not

constexpr std::array<NamespaceName, 8> kNamespaces{{
    {NamespaceKind::kUser, "user", "user", CLONE_NEWUSER},
    {NamespaceKind::kMount, "mount", "mnt", CLONE_NEWNS},
    {NamespaceKind::kPid, "pid", "pid", CLONE_NEWPID},
    {NamespaceKind::kNetwork, "network", "net", CLONE_NEWNET},
    {NamespaceKind::kIpc, "ipc", "ipc", CLONE_NEWIPC},
    {NamespaceKind::kUts, "uts", "uts", CLONE_NEWUTS},
    {NamespaceKind::kCgroup, "cgroup", "cgroup", CLONE_NEWCGROUP},
    {NamespaceKind::kTime, "time", "time", kCloneNewTime},
}};

const NamespaceName& entry(NamespaceKind kind) { return kNamespaces[static_cast<std::size_t>(kind)]; }

struct PropagationName {
  Propagation value;
  std::string_view text;
  unsigned long flags;
};

constexpr std::array<PropagationName, 8> kPropagations{{
    {Propagation::kPrivate, "private", MS_PRIVATE},
    {Propagation::kSlave, "slave", MS_SLAVE},
    {Propagation::kShared, "shared", MS_SHARED},
    {Propagation::kUnbindable, "unbindable", MS_UNBINDABLE},
    {Propagation::kRecursivePrivate, "rprivate", MS_PRIVATE | MS_REC},
    {Propagation::kRecursiveSlave, "rslave", MS_SLAVE | MS_REC},
    {Propagation::kRecursiveShared, "rshared", MS_SHARED | MS_REC},
    {Propagation::kRecursiveUnbindable, "runbindable", MS_UNBINDABLE | MS_REC},
}};

}  // namespace

std::string_view to_text(NamespaceKind kind) { return entry(kind).text; }
std::uint64_t clone_flag(NamespaceKind kind) { return entry(kind).flag; }
std::string_view proc_name(NamespaceKind kind) { return entry(kind).proc; }

std::optional<NamespaceKind> find_namespace_kind(std::string_view text) {
  const auto* found = std::ranges::find(kNamespaces, text, &NamespaceName::text);
  if (found == kNamespaces.end()) return std::nullopt;
  return found->kind;
}

bool Seccomp::notifies() const {
  return std::ranges::find(rules, SeccompAction::kNotify, &SeccompRule::action) != rules.end();
}

std::optional<Propagation> find_propagation(std::string_view text) {
  const auto* found = std::ranges::find(kPropagations, text, &PropagationName::text);
  if (found == kPropagations.end()) return std::nullopt;
  return found->value;
}

unsigned long mount_flags(Propagation propagation) {
  const auto* found = std::ranges::find(kPropagations, propagation, &PropagationName::value);
  return found == kPropagations.end() ? 0 : found->flags;
}

bool Resources::has_limits() const {
  return memory_limit || memory_reservation || memory_swap || disable_oom_killer || cpu_shares || cpu_quota ||
         cpu_period || cpu_idle || !cpuset_cpus.empty() || !cpuset_mems.empty() || pids_limit ||
         block_io.weight || !block_io.read_bps.empty() || !block_io.write_bps.empty() ||
         !block_io.read_iops.empty() || !block_io.write_iops.empty() || !hugepages.empty() ||
         memory_swappiness || cpu_burst || cpu_realtime_runtime || cpu_realtime_period ||
         block_io.leaf_weight || !block_io.device_weights.empty() || !rdma.empty() || network_class ||
         !network_priorities.empty() || !unified.empty();
}

void Resources::drop_zeros() {
  auto drop = [](auto&... limits) {
    auto drop_one = [](auto& limit) {
      if (limit && *limit == 0) limit.reset();
    };
    (drop_one(limits), ...);
  };
  drop(memory_limit, memory_reservation, memory_swap, memory_kernel, memory_kernel_tcp);
  drop(cpu_shares, cpu_quota, cpu_period, cpu_realtime_runtime, cpu_realtime_period);
  drop(pids_limit, network_class, block_io.weight, block_io.leaf_weight);
  for (auto& device : block_io.device_weights) drop(device.weight, device.leaf_weight);
}

const Namespace* ContainerSpec::find_namespace(NamespaceKind kind) const {
  auto found = std::ranges::find(namespaces, kind, &Namespace::kind);
  return found == namespaces.end() ? nullptr : &*found;
}

bool ContainerSpec::makes(NamespaceKind kind) const {
  const Namespace* found = find_namespace(kind);
  return found != nullptr && found->path.empty();
}

}  // namespace layerfs::spec
