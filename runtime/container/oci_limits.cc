// SPDX-License-Identifier: Apache-2.0
// OciRuntime: update, stats and watch.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "runtime/container/host.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/container/oci_support.h"
#include "runtime/container/resctrl.h"
#include "runtime/container/systemd_scope.h"
#include "runtime/spec/parse_spec.h"

namespace layerfs::container {

namespace {

/// How often the kernel's count of kills is looked at: one way on v1, v2 and the hybrid of both, where
/// eventfd (v1) and inotify (v2) would each be one of two.
constexpr int kLookEvery = 100;  // ms

/// v2 has files of two limits: the half that is not changed is written as it is now.
void fill_from_now(const sys::CgroupDirs& cgroup, spec::Resources& resources) {
  auto number = [](const std::string& text) -> std::optional<std::int64_t> {
    if (text.empty()) return std::nullopt;
    return text.starts_with("max") ? -1 : std::atoll(text.c_str());
  };
  if (resources.memory_swap.value_or(-1) >= 0 && !resources.memory_limit)
    resources.memory_limit = number(cgroup.text_of("memory.max"));
  if (resources.cpu_period && !resources.cpu_quota) resources.cpu_quota = number(cgroup.text_of("cpu.max"));
  if (std::string now = cgroup.text_of("cpu.max"); resources.cpu_quota && !resources.cpu_period)
    if (std::size_t blank = now.find(' '); blank != std::string::npos)
      resources.cpu_period = static_cast<std::uint64_t>(std::atoll(now.c_str() + blank + 1));
}

/// "2MB" of "hugepages-2048kB" (/sys/kernel/mm/hugepages), as the hugetlb controller calls it.
std::vector<std::string> huge_page_sizes() {
  std::vector<std::string> sizes;
  auto names = list_dir("/sys/kernel/mm/hugepages");
  if (!names) return sizes;
  for (const auto& name : *names) {
    constexpr std::string_view kPrefix = "hugepages-";
    if (!name.starts_with(kPrefix)) continue;
    long long kib = std::atoll(name.c_str() + kPrefix.size());
    if (kib >= 1024 * 1024)
      sizes.push_back(std::to_string(kib / 1024 / 1024) + "GB");
    else if (kib >= 1024)
      sizes.push_back(std::to_string(kib / 1024) + "MB");
    else
      sizes.push_back(std::to_string(kib) + "KB");
  }
  return sizes;
}

plan::CgroupStats stats_of(const sys::CgroupDirs& cgroup) {
  return plan::read_cgroup_stats([&](const std::string& file) { return cgroup.text_of(file); },
                                 huge_page_sizes());
}

}  // namespace

Result<void> OciRuntime::update(const std::string& id, spec::Resources resources) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  if (status == Status::kStopped || status == Status::kCreating)
    return invalid_error("update container", id, "is " + std::string(to_text(status)));
  sys::CgroupDirs cgroup(state.cgroups);
  if (cgroup.empty()) return unsupported_error("update container", id, "it has no cgroup of its own");
  LAYERFS_ASSIGN(plan::HostFacts host, read_host_facts());
  if (resources.check_before_update && resources.memory_limit.value_or(-1) >= 0) {
    std::uint64_t used = stats_of(cgroup).memory.memory.usage;
    if (used > static_cast<std::uint64_t>(*resources.memory_limit))
      return invalid_error("field", "linux.resources.memory.limit",
                           "is below the " + std::to_string(used) + " bytes that are used");
  }
  fill_from_now(cgroup, resources);
  LAYERFS_ASSIGN(plan::CgroupPlan plan,
                 plan::plan_cgroup(resources, host.cgroups, "", plan::CgroupExtent::kNeeded));
  for (const auto& warning : plan.warnings) log_warning("{}", warning);
  if (!state.scope.empty()) return update_scope(host, state.scope, cgroup, plan);
  return cgroup.update(cgroup_requests(plan));
}

Result<void> OciRuntime::update_schemata(const std::string& id, const std::vector<std::string>& lines) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(spec::ContainerSpec spec, stored_spec(id));
  if (!spec.intel_rdt) return unsupported_error("update container", id, "it has no linux.intelRdt");
  spec.intel_rdt->l3_cache_schema.clear();
  spec.intel_rdt->memory_bandwidth_schema.clear();
  spec.intel_rdt->schemata = lines;
  LAYERFS_TRY(spec::validate(spec));
  LAYERFS_ASSIGN(plan::HostFacts host, read_host_facts());
  LAYERFS_ASSIGN(plan::ResctrlPlan plan, plan::plan_resctrl(*spec.intel_rdt, host.resctrl, id));
  return write_schemata(plan);
}

Result<plan::CgroupStats> OciRuntime::stats(const std::string& id) {
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  if (status == Status::kStopped) return invalid_error("read statistics of container", id, "is stopped");
  if (state.cgroups.empty())
    return unsupported_error("read statistics of container", id, "it has no cgroup of its own");
  return stats_of(sys::CgroupDirs(state.cgroups));
}

Result<void> OciRuntime::watch(const std::string& id, const Watcher& watcher) {
  using Clock = std::chrono::steady_clock;
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Fd init, open_init(state));
  if (!init) return invalid_error("watch container", id, "is not running");
  sys::CgroupDirs cgroup(state.cgroups);
  if (cgroup.empty()) return unsupported_error("watch container", id, "it has no cgroup of its own");
  std::uint64_t kills = cgroup.out_of_memory_kills().value_or(0);
  Clock::time_point next = Clock::now();
  for (;;) {
    // Before the wait too: the groups may be removed right after the end.
    for (std::uint64_t now = cgroup.out_of_memory_kills().value_or(kills); kills < now; ++kills)
      LAYERFS_TRY(watcher.on_out_of_memory());
    if (Clock::now() >= next) {
      LAYERFS_TRY(watcher.on_stats(stats_of(cgroup)));
      next += std::chrono::milliseconds(watcher.interval);
    }
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now()).count() + 1;
    pollfd process{init.get(), POLLIN, 0};
    int timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, kLookEvery));
    int ready = ::poll(&process, 1, timeout);
    if (ready < 0 && errno != EINTR) return system_error(errno, "wait for container", id);
    if (ready <= 0) continue;
    for (std::uint64_t now = cgroup.out_of_memory_kills().value_or(kills); kills < now; ++kills)
      LAYERFS_TRY(watcher.on_out_of_memory());
    return {};
  }
}

}  // namespace layerfs::container
