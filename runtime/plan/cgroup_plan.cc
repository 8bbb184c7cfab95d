// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/cgroup_plan.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/plan/device_program.h"

namespace layerfs::plan {

namespace {

std::vector<std::string_view> split_words(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    std::size_t at = text.find(separator);
    if (at != 0 && !text.empty()) parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

/// `path` as seen below a mount whose root is `root`: a mount of a subtree shows only what is in it.
std::string below(const std::string& path, const std::string& root) {
  if (root == "/" || root.empty()) return path;
  if (path == root) return "/";
  if (path.starts_with(root + "/")) return path.substr(root.size());
  return "/";
}

constexpr std::string_view kMemoryFields = "linux.resources.memory.";
constexpr std::string_view kKnown[] = {"cpu",      "cpuacct",    "cpuset",  "memory",  "pids",
                                       "blkio",    "freezer",    "devices", "hugetlb", "net_cls",
                                       "net_prio", "perf_event", "rdma",    "misc"};

/// Own paths by controller; "" is the unified one.
std::map<std::string, std::string, std::less<>> own_paths(std::string_view self_cgroup) {
  std::map<std::string, std::string, std::less<>> paths;
  for (std::string_view line : split_words(self_cgroup, '\n')) {
    std::size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string path(line.substr(second + 1));
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) paths[""] = path;
    for (std::string_view name : split_words(controllers, ',')) paths[std::string(name)] = path;
  }
  return paths;
}

/// Collects the writes of one controller at a time.
class Builder {
 public:
  Builder(const CgroupLayout& layout, CgroupPlan& plan) : layout_(layout), plan_(plan) {}

  bool unified_for(std::string_view controller) const {
    return layout_.find_v1(controller) == nullptr && layout_.find_unified() != nullptr;
  }
  /// Adds `write` to the group of `controller`. Errors: kUnsupported where it is nowhere.
  Result<void> add(std::string_view controller, CgroupWrite write) {
    LAYERFS_ASSIGN(CgroupGroup * group, group_of(controller, write.field));
    group->writes.push_back(std::move(write));
    return {};
  }
  Result<CgroupGroup*> group_of(std::string_view controller, std::string_view field) {
    const CgroupHierarchy* hierarchy = layout_.find_v1(controller);
    if (hierarchy == nullptr) hierarchy = layout_.find_unified();
    if (hierarchy == nullptr)
      return unsupported_error("field", field,
                               "the host has no '" + std::string(controller) + "' cgroup controller");
    CgroupGroup& group = group_in(*hierarchy);
    if (hierarchy->unified && std::ranges::find(group.controllers, controller) == group.controllers.end())
      group.controllers.emplace_back(controller);
    return &group;
  }
  CgroupGroup& group_in(const CgroupHierarchy& hierarchy) {
    auto same = [&](const CgroupGroup& group) {
      return group.hierarchy.mount_point == hierarchy.mount_point;
    };
    auto found = std::ranges::find_if(plan_.groups, same);
    if (found != plan_.groups.end()) return *found;
    plan_.groups.emplace_back().hierarchy = hierarchy;
    return plan_.groups.back();
  }

 private:
  const CgroupLayout& layout_;
  CgroupPlan& plan_;
};

std::string limit_text(std::int64_t value, std::string_view unlimited) {
  return value < 0 ? std::string(unlimited) : std::to_string(value);
}

/// Limits of the kernel's own memory were taken out of Linux (v1: 5.16; v2 never had them), the specification
/// recommends not to use them, and other runtimes ignore them.
void warn_of_kernel_memory(const spec::Resources& resources, CgroupPlan& plan) {
  auto warn = [&](const std::optional<std::int64_t>& limit, const char* field) {
    if (limit.value_or(-1) > 0)
      plan.warnings.push_back(std::string("field '") + field +
                              "': is left out: the kernel has no such limit");
  };
  warn(resources.memory_kernel, "linux.resources.memory.kernel");
  warn(resources.memory_kernel_tcp, "linux.resources.memory.kernelTCP");
}

Result<void> plan_swappiness(const spec::Resources& resources, Builder& builder) {
  if (!resources.memory_swappiness) return {};
  if (builder.unified_for("memory"))
    return unsupported_error("field", "linux.resources.memory.swappiness", "cgroup v2 has no such setting");
  return builder.add("memory", {"memory.swappiness", std::to_string(*resources.memory_swappiness),
                                "linux.resources.memory.swappiness"});
}

Result<void> plan_memory_v2(const spec::Resources& resources, Builder& builder) {
  if (resources.memory_limit)
    LAYERFS_TRY(builder.add("memory", {"memory.max", limit_text(*resources.memory_limit, "max"),
                                       "linux.resources.memory.limit"}));
  if (resources.memory_reservation)
    LAYERFS_TRY(builder.add("memory", {"memory.low", limit_text(*resources.memory_reservation, "max"),
                                       "linux.resources.memory.reservation"}));
  if (resources.memory_swap) {
    // v1 counts memory and swap together, v2 swap alone.
    std::int64_t swap = *resources.memory_swap;
    if (swap >= 0 && !resources.memory_limit)
      return invalid_error("field", "linux.resources.memory.swap", "needs a memory limit");
    if (swap >= 0) swap -= std::max<std::int64_t>(*resources.memory_limit, 0);
    LAYERFS_TRY(
        builder.add("memory", {"memory.swap.max", limit_text(swap, "max"), "linux.resources.memory.swap",
                               /*optional=*/swap <= 0}));
  }
  if (resources.disable_oom_killer.value_or(false))
    return unsupported_error("field", "linux.resources.memory.disableOOMKiller",
                             "cgroup v2 has no such switch");
  return {};
}

Result<void> plan_memory(const spec::Resources& resources, Builder& builder) {
  if (builder.unified_for("memory")) return plan_memory_v2(resources, builder);
  // The kernel refuses memory+swap below memory, so memory comes first in a new group.
  if (resources.memory_limit)
    LAYERFS_TRY(builder.add("memory", {"memory.limit_in_bytes", limit_text(*resources.memory_limit, "-1"),
                                       "linux.resources.memory.limit"}));
  if (resources.memory_swap)
    LAYERFS_TRY(
        builder.add("memory", {"memory.memsw.limit_in_bytes", limit_text(*resources.memory_swap, "-1"),
                               "linux.resources.memory.swap",
                               /*optional=*/resources.memory_swap == resources.memory_limit}));
  if (resources.memory_reservation)
    LAYERFS_TRY(
        builder.add("memory", {"memory.soft_limit_in_bytes", limit_text(*resources.memory_reservation, "-1"),
                               "linux.resources.memory.reservation"}));
  if (resources.disable_oom_killer.value_or(false))
    LAYERFS_TRY(
        builder.add("memory", {"memory.oom_control", "1", "linux.resources.memory.disableOOMKiller"}));
  return {};
}

Result<void> plan_cpu(const spec::Resources& resources, Builder& builder) {
  bool unified = builder.unified_for("cpu");
  if (resources.cpu_shares)
    LAYERFS_TRY(builder.add(
        "cpu", {unified ? "cpu.weight" : "cpu.shares",
                std::to_string(unified ? cpu_weight(*resources.cpu_shares) : *resources.cpu_shares),
                "linux.resources.cpu.shares"}));
  if (resources.cpu_idle)
    LAYERFS_TRY(
        builder.add("cpu", {"cpu.idle", std::to_string(*resources.cpu_idle), "linux.resources.cpu.idle"}));
  if (resources.cpu_quota || resources.cpu_period) {
    std::string period = std::to_string(resources.cpu_period.value_or(100'000));
    if (unified) {
      std::string quota = limit_text(resources.cpu_quota.value_or(-1), "max");
      LAYERFS_TRY(builder.add("cpu", {"cpu.max", quota + ' ' + period, "linux.resources.cpu.quota"}));
    } else {
      if (resources.cpu_period)
        LAYERFS_TRY(builder.add("cpu", {"cpu.cfs_period_us", period, "linux.resources.cpu.period"}));
      if (resources.cpu_quota)
        LAYERFS_TRY(builder.add("cpu", {"cpu.cfs_quota_us", limit_text(*resources.cpu_quota, "-1"),
                                        "linux.resources.cpu.quota"}));
    }
  }
  if (resources.cpu_burst)
    LAYERFS_TRY(builder.add("cpu", {unified ? "cpu.max.burst" : "cpu.cfs_burst_us",
                                    std::to_string(*resources.cpu_burst), "linux.resources.cpu.burst"}));
  if (resources.cpu_realtime_period || resources.cpu_realtime_runtime) {
    const char* field = resources.cpu_realtime_period ? "linux.resources.cpu.realtimePeriod"
                                                      : "linux.resources.cpu.realtimeRuntime";
    if (unified) return unsupported_error("field", field, "cgroup v2 has no realtime groups");
    if (resources.cpu_realtime_period)
      LAYERFS_TRY(
          builder.add("cpu", {"cpu.rt_period_us", std::to_string(*resources.cpu_realtime_period), field}));
    if (resources.cpu_realtime_runtime)
      LAYERFS_TRY(builder.add("cpu", {"cpu.rt_runtime_us", std::to_string(*resources.cpu_realtime_runtime),
                                      "linux.resources.cpu.realtimeRuntime"}));
  }
  if (!resources.cpuset_cpus.empty())
    LAYERFS_TRY(builder.add("cpuset", {"cpuset.cpus", resources.cpuset_cpus, "linux.resources.cpu.cpus"}));
  if (!resources.cpuset_mems.empty())
    LAYERFS_TRY(builder.add("cpuset", {"cpuset.mems", resources.cpuset_mems, "linux.resources.cpu.mems"}));
  return {};
}

Result<void> plan_throttle(const std::vector<spec::BlockThrottle>& list, const char* v1_file,
                           const char* v2_key, const std::string& field, Builder& builder) {
  bool unified = builder.unified_for("blkio");
  for (const auto& item : list) {
    std::string device = std::to_string(item.major) + ':' + std::to_string(item.minor) + ' ';
    std::string rate = std::to_string(item.rate);
    // 0 takes a limit away (blkio, v1).
    if (unified)
      LAYERFS_TRY(
          builder.add("io", {"io.max", device + v2_key + '=' + (item.rate == 0 ? "max" : rate), field}));
    else
      LAYERFS_TRY(builder.add("blkio", {v1_file, device + rate, field}));
  }
  return {};
}

/// 10 to 1000 of v1 as 1 to 10000 of v2.
std::uint64_t io_weight(std::uint16_t weight) {
  return 1 + (std::max<std::uint64_t>(weight, 10) - 10) * 9999 / 990;
}

/// `device`: "8:0 "; empty: of the whole group. Where only the BFQ scheduler has weights, its files have
/// another name and, on v2, take the specification's scale as it is.
Result<void> add_weight(const std::string& device, std::uint16_t weight, const std::string& field,
                        Builder& builder) {
  if (builder.unified_for("blkio")) {
    std::string whose = device.empty() ? "default " : device;
    return builder.add("io", {"io.weight", whose + std::to_string(io_weight(weight)), field, false,
                              "io.bfq.weight", whose + std::to_string(weight)});
  }
  std::string name = device.empty() ? "weight" : "weight_device";
  std::string value = device + std::to_string(weight);
  return builder.add("blkio", {"blkio." + name, value, field, false, "blkio.bfq." + name, value});
}

Result<void> plan_block_weights(const spec::BlockIo& io, Builder& builder) {
  const std::string field = "linux.resources.blockIO.";
  bool unified = builder.unified_for("blkio");
  auto leaf_is_v1 = [&](const std::string& name) {
    return unsupported_error("field", name, "cgroup v2 has no weights of leaves");
  };
  if (io.leaf_weight) {
    if (unified) return leaf_is_v1(field + "leafWeight");
    LAYERFS_TRY(
        builder.add("blkio", {"blkio.leaf_weight", std::to_string(*io.leaf_weight), field + "leafWeight"}));
  }
  for (const auto& item : io.device_weights) {
    std::string device = std::to_string(item.major) + ':' + std::to_string(item.minor) + ' ';
    if (item.weight.value_or(0) != 0)
      LAYERFS_TRY(add_weight(device, *item.weight, field + "weightDevice", builder));
    if (item.leaf_weight.value_or(0) == 0) continue;
    if (unified) return leaf_is_v1(field + "weightDevice");
    LAYERFS_TRY(builder.add("blkio", {"blkio.leaf_weight_device", device + std::to_string(*item.leaf_weight),
                                      field + "weightDevice"}));
  }
  return {};
}

Result<void> plan_block_io(const spec::BlockIo& io, Builder& builder) {
  const std::string field = "linux.resources.blockIO.";
  if (io.weight) LAYERFS_TRY(add_weight({}, *io.weight, field + "weight", builder));
  LAYERFS_TRY(plan_block_weights(io, builder));
  LAYERFS_TRY(plan_throttle(io.read_bps, "blkio.throttle.read_bps_device", "rbps",
                            field + "throttleReadBpsDevice", builder));
  LAYERFS_TRY(plan_throttle(io.write_bps, "blkio.throttle.write_bps_device", "wbps",
                            field + "throttleWriteBpsDevice", builder));
  LAYERFS_TRY(plan_throttle(io.read_iops, "blkio.throttle.read_iops_device", "riops",
                            field + "throttleReadIOPSDevice", builder));
  return plan_throttle(io.write_iops, "blkio.throttle.write_iops_device", "wiops",
                       field + "throttleWriteIOPSDevice", builder);
}

Result<void> plan_rest(const spec::Resources& resources, Builder& builder) {
  if (resources.pids_limit && *resources.pids_limit != 0)
    LAYERFS_TRY(builder.add(
        "pids", {"pids.max", limit_text(*resources.pids_limit, "max"), "linux.resources.pids.limit"}));
  for (const auto& page : resources.hugepages) {
    std::string file =
        "hugetlb." + page.page_size + (builder.unified_for("hugetlb") ? ".max" : ".limit_in_bytes");
    LAYERFS_TRY(builder.add("hugetlb", {file, std::to_string(page.limit), "linux.resources.hugepageLimits"}));
  }
  for (const auto& [device, limit] : resources.rdma) {
    std::string value = device;
    if (limit.handles) value += " hca_handle=" + std::to_string(*limit.handles);
    if (limit.objects) value += " hca_object=" + std::to_string(*limit.objects);
    LAYERFS_TRY(builder.add("rdma", {"rdma.max", value, "linux.resources.rdma"}));
  }
  if (resources.network_class) {
    if (builder.unified_for("net_cls"))
      return unsupported_error("field", "linux.resources.network.classID", "cgroup v2 has no such setting");
    LAYERFS_TRY(builder.add("net_cls", {"net_cls.classid", std::to_string(*resources.network_class),
                                        "linux.resources.network.classID"}));
  }
  for (const auto& [name, priority] : resources.network_priorities) {
    if (builder.unified_for("net_prio"))
      return unsupported_error("field", "linux.resources.network.priorities",
                               "cgroup v2 has no such setting");
    LAYERFS_TRY(builder.add("net_prio", {"net_prio.ifpriomap", name + ' ' + std::to_string(priority),
                                         "linux.resources.network.priorities"}));
  }
  for (const auto& [file, value] : resources.unified) {
    std::string controller = file.substr(0, file.find('.'));
    if (!builder.unified_for(controller))
      return unsupported_error("field", "linux.resources.unified",
                               "the host's '" + controller + "' controller is not in cgroup v2");
    LAYERFS_TRY(builder.add(controller, {file, value, "linux.resources.unified." + file}));
  }
  return {};
}

/// What every container may do whatever its rules say (runtime-spec, config-linux.md, "Default Devices"):
/// make nodes, and use the default ones and its terminals.
std::vector<spec::DeviceRule> default_rules() {
  std::vector<spec::DeviceRule> rules{{true, 'c', std::nullopt, std::nullopt, "m"},
                                      {true, 'b', std::nullopt, std::nullopt, "m"}};
  constexpr std::pair<int, int> kUsable[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}};
  for (auto [major, minor] : kUsable) rules.push_back({true, 'c', major, minor, "rwm"});
  rules.push_back({true, 'c', 136, std::nullopt, "rwm"});
  return rules;
}

Result<void> plan_devices(const std::vector<spec::DeviceRule>& rules, const CgroupLayout& layout,
                          Builder& builder) {
  if (rules.empty()) return {};
  std::vector<spec::DeviceRule> all = rules;
  for (auto& rule : default_rules()) all.push_back(std::move(rule));
  if (builder.unified_for("devices")) {
    LAYERFS_ASSIGN(builder.group_in(*layout.find_unified()).device_program, make_device_program(all));
    return {};
  }
  for (const auto& rule : all)
    LAYERFS_TRY(builder.add("devices", {rule.allow ? "devices.allow" : "devices.deny", device_line(rule),
                                        "linux.resources.devices"}));
  return {};
}

}  // namespace

bool CgroupLayout::unified_only() const {
  return find_unified() != nullptr && std::ranges::all_of(hierarchies, [](const CgroupHierarchy& hierarchy) {
           return hierarchy.unified || hierarchy.controllers.empty() ||
                  hierarchy.controllers.front().starts_with("name=");
         });
}

const CgroupHierarchy* CgroupLayout::find_v1(std::string_view controller) const {
  for (const auto& hierarchy : hierarchies)
    if (!hierarchy.unified &&
        std::ranges::find(hierarchy.controllers, controller) != hierarchy.controllers.end())
      return &hierarchy;
  return nullptr;
}

const CgroupHierarchy* CgroupLayout::find_unified() const {
  auto found = std::ranges::find(hierarchies, true, &CgroupHierarchy::unified);
  return found == hierarchies.end() ? nullptr : &*found;
}

CgroupLayout parse_cgroup_layout(const std::vector<MountEntry>& mounts, std::string_view self_cgroup) {
  CgroupLayout layout;
  auto paths = own_paths(self_cgroup);
  for (const MountEntry& mount : mounts) {
    if (mount.type != "cgroup" && mount.type != "cgroup2") continue;
    CgroupHierarchy hierarchy;
    hierarchy.unified = mount.type == "cgroup2";
    hierarchy.mount_point = mount.path;
    std::string key;
    if (!hierarchy.unified) {
      for (std::string_view option : split_words(mount.super_options, ','))
        if (std::ranges::find(kKnown, option) != std::end(kKnown) || option.starts_with("name="))
          hierarchy.controllers.emplace_back(option);
      if (hierarchy.controllers.empty()) continue;
      key = hierarchy.controllers.front();
    }
    auto own = paths.find(key);
    hierarchy.own_path = below(own == paths.end() ? "/" : own->second, mount.root);
    // A second mount of the same hierarchy shows nothing new.
    bool known = std::ranges::any_of(layout.hierarchies, [&](const CgroupHierarchy& have) {
      return have.unified == hierarchy.unified && have.controllers == hierarchy.controllers;
    });
    if (!known) layout.hierarchies.push_back(std::move(hierarchy));
  }
  return layout;
}

std::uint64_t cpu_weight(std::uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262'144) return 10'000;
  double log = std::log2(static_cast<double>(shares));
  double exponent = (log * log + 125 * log) / 612.0 - 7.0 / 34.0;
  return static_cast<std::uint64_t>(std::ceil(std::pow(10.0, exponent)));
}

std::string device_line(const spec::DeviceRule& rule) {
  auto number = [](const std::optional<std::int64_t>& value) {
    return value ? std::to_string(*value) : std::string("*");
  };
  std::string access = rule.access.empty() ? "rwm" : rule.access;
  if (rule.type == 'a') return "a";
  return std::string(1, rule.type == 'u' ? 'c' : rule.type) + ' ' + number(rule.major) + ':' +
         number(rule.minor) + ' ' + access;
}

Result<CgroupPlan> plan_cgroup(const spec::Resources& resources, const CgroupLayout& layout,
                               const std::string& path, CgroupExtent extent) {
  CgroupPlan plan;
  plan.path = path;
  Builder builder(layout, plan);
  if (extent == CgroupExtent::kAll)
    for (const auto& hierarchy : layout.hierarchies)
      builder.group_in(hierarchy).every_controller = hierarchy.unified;
  LAYERFS_TRY(plan_devices(resources.devices, layout, builder));
  LAYERFS_TRY(plan_memory(resources, builder));
  LAYERFS_TRY(plan_swappiness(resources, builder));
  warn_of_kernel_memory(resources, plan);
  LAYERFS_TRY(plan_cpu(resources, builder));
  LAYERFS_TRY(plan_block_io(resources.block_io, builder));
  LAYERFS_TRY(plan_rest(resources, builder));
  return plan;
}

std::optional<ServedCgroupPlan> plan_served_cgroup(const CgroupPlan& container) {
  ServedCgroupPlan plan{.whole = {.path = container.path, .groups = {}, .warnings = container.warnings},
                        .container = container,
                        .files = {.path = "files", .groups = {}, .warnings = {}}};
  plan.container.path = "container";
  for (const auto& group : container.groups) {
    CgroupGroup whole{.hierarchy = group.hierarchy,
                      .controllers = group.controllers,
                      .every_controller = group.every_controller,
                      .writes = {},
                      .device_program = {}};
    CgroupGroup files{.hierarchy = group.hierarchy,
                      .controllers = {},
                      .every_controller = false,
                      .writes = {},
                      .device_program = {}};
    bool is_of_server = false;
    for (const auto& write : group.writes) {
      const bool is_memory = write.field.starts_with(kMemoryFields);
      const bool is_disk = write.field.starts_with("linux.resources.blockIO.");
      const bool is_weight = write.field == "linux.resources.cpu.shares";
      // Before Linux 5.11 a group of v1 counts what is below it only where it is told to, without children.
      if (is_memory && !whole.hierarchy.unified && whole.writes.empty())
        whole.writes.push_back({"memory.use_hierarchy", "1", write.field, /*optional=*/true});
      if (is_memory || is_weight) whole.writes.push_back(write);
      if (is_disk || is_weight) files.writes.push_back(write);
      is_of_server |= is_memory || is_disk || write.field.starts_with("linux.resources.cpu.");
      // Whose pages are written back is known by who they are charged to (cgroup-v2.rst, "Writeback").
      if (is_disk && files.hierarchy.unified) files.controllers = {"io", "memory"};
    }
    for (const auto& name : files.controllers)
      if (std::ranges::find(whole.controllers, name) == whole.controllers.end())
        whole.controllers.push_back(name);
    plan.whole.groups.push_back(std::move(whole));
    if (is_of_server) plan.files.groups.push_back(std::move(files));
  }
  if (plan.files.groups.empty()) return std::nullopt;
  return plan;
}

CgroupPlan plan_without_memory_limit(const CgroupPlan& plan) {
  CgroupPlan without{.path = plan.path, .groups = {}, .warnings = {}};
  for (const auto& group : plan.groups) {
    CgroupGroup open = group;
    open.writes.clear();
    for (CgroupWrite write : group.writes) {
      if (write.file == "memory.max" || write.file == "memory.swap.max")
        write.value = "max";
      else if (write.file == "memory.limit_in_bytes" || write.file == "memory.memsw.limit_in_bytes")
        write.value = "-1";
      else
        continue;
      open.writes.push_back(std::move(write));
    }
    if (!open.writes.empty()) without.groups.push_back(std::move(open));
  }
  return without;
}

}  // namespace layerfs::plan
