// SPDX-License-Identifier: Apache-2.0
// runtime-spec, config-linux.md.
#include "runtime/spec/parse_linux.h"

#include <algorithm>
#include <array>
#include <utility>

namespace layerfs::spec {

namespace {

char device_type(const JsonReader& device, std::string_view allowed) {
  std::string type = device.string("type");
  if (type.size() == 1 && allowed.find(type[0]) != std::string_view::npos) return type[0];
  device.fail("type", "must be one of \"" + std::string(allowed) + "\"");
  return allowed.front();
}

std::vector<Namespace> read_namespaces(const JsonReader& linux) {
  std::vector<Namespace> list;
  for (const auto& item : linux.objects("namespaces")) {
    auto kind = find_namespace_kind(item.required_string("type"));
    if (!kind)
      item.fail("type", "is no kind of namespace");
    else
      list.push_back({*kind, item.string("path")});
  }
  return list;
}

std::vector<Device> read_devices(const JsonReader& linux) {
  std::vector<Device> list;
  for (const auto& item : linux.objects("devices")) {
    Device device;
    device.path = item.required_string("path");
    device.type = device_type(item, "cubp");
    if (device.type != 'p') {
      device.major = item.required_integer<std::int64_t>("major");
      device.minor = item.required_integer<std::int64_t>("minor");
    }
    device.file_mode = item.integer<std::uint32_t>("fileMode");
    device.uid = item.integer<std::uint32_t>("uid");
    device.gid = item.integer<std::uint32_t>("gid");
    list.push_back(std::move(device));
  }
  return list;
}

std::vector<DeviceRule> read_device_rules(const JsonReader& resources) {
  std::vector<DeviceRule> list;
  for (const auto& item : resources.objects("devices")) {
    DeviceRule rule;
    rule.allow = item.boolean("allow");
    if (item.has("type") && !item.string("type").empty()) rule.type = device_type(item, "acbu");
    // -1 and absence both mean every number.
    rule.major = item.integer<std::int64_t>("major");
    rule.minor = item.integer<std::int64_t>("minor");
    if (rule.major && *rule.major < 0) rule.major.reset();
    if (rule.minor && *rule.minor < 0) rule.minor.reset();
    rule.access = item.string("access");
    if (rule.access.find_first_not_of("rwm") != std::string::npos) item.fail("access", "must be of \"rwm\"");
    list.push_back(std::move(rule));
  }
  return list;
}

std::vector<BlockThrottle> read_throttles(const JsonReader& block, const char* name) {
  std::vector<BlockThrottle> list;
  for (const auto& item : block.objects(name))
    list.push_back({item.required_integer<std::int64_t>("major"),
                    item.required_integer<std::int64_t>("minor"),
                    item.required_integer<std::uint64_t>("rate")});
  return list;
}

BlockIo read_block_io(const JsonReader& block) {
  BlockIo io;
  io.weight = block.integer<std::uint16_t>("weight");
  io.leaf_weight = block.integer<std::uint16_t>("leafWeight");
  for (const auto& item : block.objects("weightDevice"))
    io.device_weights.push_back(
        {item.required_integer<std::int64_t>("major"), item.required_integer<std::int64_t>("minor"),
         item.integer<std::uint16_t>("weight"), item.integer<std::uint16_t>("leafWeight")});
  io.read_bps = read_throttles(block, "throttleReadBpsDevice");
  io.write_bps = read_throttles(block, "throttleWriteBpsDevice");
  io.read_iops = read_throttles(block, "throttleReadIOPSDevice");
  io.write_iops = read_throttles(block, "throttleWriteIOPSDevice");
  return io;
}

void read_memory(const JsonReader& memory, Resources& to) {
  to.memory_limit = memory.integer<std::int64_t>("limit");
  to.memory_reservation = memory.integer<std::int64_t>("reservation");
  to.memory_swap = memory.integer<std::int64_t>("swap");
  if (memory.boolean("disableOOMKiller")) to.disable_oom_killer = true;
  to.memory_kernel = memory.integer<std::int64_t>("kernel");
  to.memory_kernel_tcp = memory.integer<std::int64_t>("kernelTCP");
  to.memory_swappiness = memory.integer<std::uint64_t>("swappiness");
  if (to.memory_swappiness.value_or(0) > 100) memory.fail("swappiness", "is above 100");
  to.check_before_update = memory.boolean("checkBeforeUpdate");
  for (const char* name : {"limit", "reservation", "swap", "kernel", "kernelTCP"})
    if (memory.integer<std::int64_t>(name).value_or(0) < -1) memory.fail(name, "is below -1");
}

void read_cpu(const JsonReader& cpu, Resources& to) {
  to.cpu_shares = cpu.integer<std::uint64_t>("shares");
  to.cpu_quota = cpu.integer<std::int64_t>("quota");
  to.cpu_period = cpu.integer<std::uint64_t>("period");
  to.cpu_idle = cpu.integer<std::int64_t>("idle");
  if (to.cpu_idle && *to.cpu_idle != 0 && *to.cpu_idle != 1) cpu.fail("idle", "must be 0 or 1");
  to.cpuset_cpus = cpu.string("cpus");
  to.cpuset_mems = cpu.string("mems");
  to.cpu_burst = cpu.integer<std::uint64_t>("burst");
  to.cpu_realtime_runtime = cpu.integer<std::int64_t>("realtimeRuntime");
  to.cpu_realtime_period = cpu.integer<std::uint64_t>("realtimePeriod");
}

constexpr std::array<std::pair<std::string_view, SeccompAction>, 9> kActions{{
    {"SCMP_ACT_ALLOW", SeccompAction::kAllow},
    {"SCMP_ACT_ERRNO", SeccompAction::kErrno},
    {"SCMP_ACT_KILL", SeccompAction::kKillThread},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::kKillThread},
    {"SCMP_ACT_KILL_PROCESS", SeccompAction::kKillProcess},
    {"SCMP_ACT_TRAP", SeccompAction::kTrap},
    {"SCMP_ACT_TRACE", SeccompAction::kTrace},
    {"SCMP_ACT_LOG", SeccompAction::kLog},
    {"SCMP_ACT_NOTIFY", SeccompAction::kNotify},
}};

constexpr std::array<std::pair<std::string_view, SeccompCompare>, 7> kCompares{{
    {"SCMP_CMP_NE", SeccompCompare::kNotEqual},
    {"SCMP_CMP_LT", SeccompCompare::kLess},
    {"SCMP_CMP_LE", SeccompCompare::kLessEqual},
    {"SCMP_CMP_EQ", SeccompCompare::kEqual},
    {"SCMP_CMP_GE", SeccompCompare::kGreaterEqual},
    {"SCMP_CMP_GT", SeccompCompare::kGreater},
    {"SCMP_CMP_MASKED_EQ", SeccompCompare::kMaskedEqual},
}};

template <class Table>
auto read_name(const JsonReader& reader, const char* name, const Table& table) {
  std::string text = reader.required_string(name);
  for (const auto& [key, value] : table)
    if (key == text) return value;
  reader.fail(name, "has an unknown value '" + text + "'");
  return table.front().second;
}

SeccompRule read_rule(const JsonReader& item) {
  SeccompRule rule;
  rule.names = item.strings("names");
  if (item.has("name")) rule.names.push_back(item.string("name"));  // the form of old Docker profiles
  if (rule.names.empty() && !item.has("names")) item.fail("names", "is missing");
  rule.action = read_name(item, "action", kActions);
  rule.errno_value = item.integer<std::uint32_t>("errnoRet");
  for (const auto& arg : item.objects("args")) {
    SeccompArg one;
    one.index = arg.required_integer<unsigned>("index");
    if (one.index > 5) arg.fail("index", "is above 5");
    one.value = arg.required_integer<std::uint64_t>("value");
    one.value_two = arg.integer<std::uint64_t>("valueTwo").value_or(0);
    one.compare = read_name(arg, "op", kCompares);
    rule.args.push_back(one);
  }
  return rule;
}

}  // namespace

Seccomp read_seccomp(const JsonReader& seccomp) {
  Seccomp result;
  result.default_action = read_name(seccomp, "defaultAction", kActions);
  result.default_errno = seccomp.integer<std::uint32_t>("defaultErrnoRet");
  result.architectures = seccomp.strings("architectures");
  result.flags = seccomp.strings("flags");
  result.listener_path = seccomp.string("listenerPath");
  result.listener_metadata = seccomp.string("listenerMetadata");
  for (const auto& item : seccomp.objects("syscalls")) result.rules.push_back(read_rule(item));
  // Everything before the program would wait for an answer too, the sending of the listener first of all.
  if (result.default_action == SeccompAction::kNotify)
    seccomp.fail("defaultAction", "cannot be SCMP_ACT_NOTIFY");
  if (result.notifies() && result.listener_path.empty())
    seccomp.fail("listenerPath", "is missing: SCMP_ACT_NOTIFY needs it");
  if (!result.listener_metadata.empty() && result.listener_path.empty())
    seccomp.fail("listenerMetadata", "needs listenerPath");
  for (const auto& rule : result.rules)
    if (rule.action == SeccompAction::kNotify && std::ranges::find(rule.names, "sendmsg") != rule.names.end())
      seccomp.fail("syscalls", "has SCMP_ACT_NOTIFY for sendmsg, which is how the listener is sent");
  return result;
}

Resources read_resources(const JsonReader& resources) {
  Resources result;
  result.devices = read_device_rules(resources);
  read_memory(resources.object("memory"), result);
  read_cpu(resources.object("cpu"), result);
  result.pids_limit = resources.object("pids").integer<std::int64_t>("limit");
  result.block_io = read_block_io(resources.object("blockIO"));
  for (const auto& item : resources.objects("hugepageLimits"))
    result.hugepages.push_back(
        {item.required_string("pageSize"), item.required_integer<std::uint64_t>("limit")});
  result.unified = resources.string_map("unified");
  for (const auto& [device, limit] : resources.members("rdma")) {
    RdmaLimit& to = result.rdma[device];
    to.handles = limit.integer<std::uint32_t>("hcaHandles");
    to.objects = limit.integer<std::uint32_t>("hcaObjects");
    if (!to.handles && !to.objects) resources.fail("rdma", "sets nothing for '" + device + "'");
  }
  JsonReader network = resources.object("network");
  result.network_class = network.integer<std::uint32_t>("classID");
  for (const auto& item : network.objects("priorities"))
    result.network_priorities[item.required_string("name")] =
        item.required_integer<std::uint32_t>("priority");
  result.drop_zeros();
  return result;
}

void read_personality(const JsonReader& personality, ContainerSpec& spec) {
  if (!personality.present()) return;
  std::string domain = personality.required_string("domain");
  if (domain != "LINUX" && domain != "LINUX32")
    personality.fail("domain", "has an unknown value '" + domain + "'");
  constexpr unsigned long kLinux32 = 8;  // PER_LINUX32 (personality(2))
  spec.personality = domain == "LINUX32" ? kLinux32 : 0;
  // The specification names no flags so far, and other runtimes ignore what is there.
}

constexpr std::array<std::pair<std::string_view, int>, 7> kMemoryModes{{
    {"MPOL_DEFAULT", 0},
    {"MPOL_PREFERRED", 1},
    {"MPOL_BIND", 2},
    {"MPOL_INTERLEAVE", 3},
    {"MPOL_LOCAL", 4},
    {"MPOL_PREFERRED_MANY", 5},
    {"MPOL_WEIGHTED_INTERLEAVE", 6},
}};

void read_memory_policy(const JsonReader& policy, ContainerSpec& spec) {
  if (!policy.present()) return;
  MemoryPolicy result;
  result.mode = read_name(policy, "mode", kMemoryModes);
  result.nodes = policy.string("nodes");
  for (const auto& flag : policy.strings("flags")) {
    if (flag == "MPOL_F_STATIC_NODES")
      result.mode |= 1 << 15;
    else if (flag == "MPOL_F_RELATIVE_NODES")
      result.mode |= 1 << 14;
    else if (flag == "MPOL_F_NUMA_BALANCING")
      result.mode |= 1 << 13;
    else
      policy.fail("flags", "has an unknown value '" + flag + "'");
  }
  spec.memory_policy = std::move(result);
}

void read_intel_rdt(const JsonReader& rdt, ContainerSpec& spec) {
  if (!rdt.present()) return;
  IntelRdt result;
  result.clos_id = rdt.string("closID");
  result.l3_cache_schema = rdt.string("l3CacheSchema");
  result.memory_bandwidth_schema = rdt.string("memBwSchema");
  result.schemata = rdt.strings("schemata");
  result.enable_monitoring = rdt.boolean("enableMonitoring");
  // Of 1.1 and 1.2, whose meaning was left open; 1.3 took them out.
  for (const char* name : {"enableCMT", "enableMBM"}) rdt.unsupported(name);
  spec.intel_rdt = std::move(result);
}

std::vector<IdMapping> read_mappings(const JsonReader& parent, const char* name) {
  std::vector<IdMapping> list;
  for (const auto& item : parent.objects(name))
    list.push_back({item.required_integer<std::uint32_t>("containerID"),
                    item.required_integer<std::uint32_t>("hostID"),
                    item.required_integer<std::uint32_t>("size")});
  return list;
}

namespace {

/// From the container's root, also without the slash that the specification asks for.
std::vector<std::string> read_paths(const JsonReader& linux, const char* name) {
  std::vector<std::string> paths = linux.strings(name);
  for (auto& path : paths) {
    if (path.empty()) linux.fail(name, "has an empty path");
    if (!path.starts_with('/')) path.insert(0, 1, '/');
  }
  return paths;
}

}  // namespace

void read_linux(const JsonReader& linux, ContainerSpec& spec) {
  spec.namespaces = read_namespaces(linux);
  spec.uid_mappings = read_mappings(linux, "uidMappings");
  spec.gid_mappings = read_mappings(linux, "gidMappings");
  spec.devices = read_devices(linux);
  spec.cgroups_path = linux.string("cgroupsPath");
  spec.resources = read_resources(linux.object("resources"));
  JsonReader seccomp = linux.object("seccomp");
  // An empty profile is none: what Go makes of a structure of which nothing was set. Any other without a
  // default is an error: a misspelt name must not leave the container unconfined.
  bool is_none = seccomp.has_at_most("defaultAction") && seccomp.string("defaultAction").empty();
  if (!is_none) spec.seccomp = read_seccomp(seccomp);
  spec.sysctl = linux.string_map("sysctl");
  spec.masked_paths = read_paths(linux, "maskedPaths");
  spec.readonly_paths = read_paths(linux, "readonlyPaths");
  std::string propagation = linux.string("rootfsPropagation");
  if (!propagation.empty()) {
    auto found = find_propagation(propagation);
    if (!found) linux.fail("rootfsPropagation", "has an unknown value '" + propagation + "'");
    spec.rootfs_propagation = found.value_or(Propagation::kUnset);
  }
  read_personality(linux.object("personality"), spec);
  read_memory_policy(linux.object("memoryPolicy"), spec);
  for (const auto& [clock, offset] : linux.members("timeOffsets")) {
    if (clock != "monotonic" && clock != "boottime")
      linux.fail("timeOffsets", "has an unknown clock '" + clock + "'");
    spec.time_offsets.push_back({clock, offset.integer<std::int64_t>("secs").value_or(0),
                                 offset.integer<std::uint32_t>("nanosecs").value_or(0)});
  }
  for (const auto& [host_name, device] : linux.members("netDevices")) {
    std::string name = device.string("name");
    spec.net_devices.push_back({host_name, name.empty() ? host_name : name});
  }
  spec.mount_label = linux.string("mountLabel");
  read_intel_rdt(linux.object("intelRdt"), spec);
}

}  // namespace layerfs::spec
