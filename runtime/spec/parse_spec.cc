// SPDX-License-Identifier: Apache-2.0
// runtime-spec, config.md.
#include "runtime/spec/parse_spec.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

#include "runtime/spec/json_reader.h"
#include "runtime/spec/parse_linux.h"

namespace layerfs::spec {

namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, std::uint32_t>, 7> kPolicies{{
    {"SCHED_OTHER", 0},
    {"SCHED_FIFO", 1},
    {"SCHED_RR", 2},
    {"SCHED_BATCH", 3},
    {"SCHED_ISO", 4},
    {"SCHED_IDLE", 5},
    {"SCHED_DEADLINE", 6},
}};
constexpr std::uint32_t kDeadlinePolicy = 6;
constexpr std::array<std::pair<std::string_view, std::uint64_t>, 7> kSchedulerFlags{{
    {"SCHED_FLAG_RESET_ON_FORK", 0x01},
    {"SCHED_FLAG_RECLAIM", 0x02},
    {"SCHED_FLAG_DL_OVERRUN", 0x04},
    {"SCHED_FLAG_KEEP_POLICY", 0x08},
    {"SCHED_FLAG_KEEP_PARAMS", 0x10},
    {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40},
}};
constexpr int kIdleClass = 3;
constexpr std::array<std::pair<std::string_view, int>, 3> kIoClasses{{
    {"IOPRIO_CLASS_RT", 1},
    {"IOPRIO_CLASS_BE", 2},
    {"IOPRIO_CLASS_IDLE", 3},
}};

template <class Table>
auto read_listed(const JsonReader& reader, const char* name, const std::string& text, const Table& table) {
  for (const auto& [key, value] : table)
    if (key == text) return value;
  reader.fail(name, "has an unknown value '" + text + "'");
  return table.front().second;
}

/// What sched_setattr(2) would refuse with no more than EINVAL. The words after the field are crun's: who
/// drives both looks for the same.
void check_deadline(const JsonReader& scheduler, const Scheduler& read) {
  constexpr std::uint64_t kLeast = 1024;                         // ns: the kernel's unit of bandwidth
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 63) - 1;  // the top bit must be clear
  const std::string what = "sched_setattr: `SCHED_DEADLINE` ";
  auto number = [](std::uint64_t value) { return std::to_string(value); };
  for (const char* name : {"runtime", "deadline"})
    if (!scheduler.has(name)) return scheduler.fail(name, what + "requires `" + name + '`');
  if (read.runtime == 0) return scheduler.fail("runtime", what + "runtime must be greater than 0");
  if (read.runtime < kLeast || read.runtime > kMost)
    return scheduler.fail("runtime", what + "runtime " + number(read.runtime) + " must be between " +
                                         number(kLeast) + " and " + number(kMost));
  if (read.runtime > read.deadline)
    return scheduler.fail("runtime", what + "runtime " + number(read.runtime) + " must be <= deadline " +
                                         number(read.deadline));
  if (read.period != 0 && read.deadline > read.period)
    scheduler.fail("deadline",
                   what + "deadline " + number(read.deadline) + " must be <= period " + number(read.period));
}

void read_scheduling(const JsonReader& process, Process& to) {
  if (JsonReader scheduler = process.object("scheduler"); scheduler.present()) {
    Scheduler result;
    result.policy = read_listed(scheduler, "policy", scheduler.required_string("policy"), kPolicies);
    result.nice = scheduler.integer<std::int32_t>("nice").value_or(0);
    result.priority = scheduler.integer<std::uint32_t>("priority").value_or(0);
    for (const auto& flag : scheduler.strings("flags"))
      result.flags |= read_listed(scheduler, "flags", flag, kSchedulerFlags);
    result.runtime = scheduler.integer<std::uint64_t>("runtime").value_or(0);
    result.deadline = scheduler.integer<std::uint64_t>("deadline").value_or(0);
    result.period = scheduler.integer<std::uint64_t>("period").value_or(0);
    if (result.policy == kDeadlinePolicy) check_deadline(scheduler, result);
    to.scheduler = result;
  }
  if (JsonReader io = process.object("ioPriority"); io.present()) {
    IoPriority result;
    result.io_class = read_listed(io, "class", io.required_string("class"), kIoClasses);
    // The idle class has no levels (ioprio_set(2)).
    result.priority = result.io_class == kIdleClass ? io.integer<int>("priority").value_or(0)
                                                    : io.required_integer<int>("priority");
    if (result.priority < 0 || result.priority > 7) io.fail("priority", "must be between 0 and 7");
    to.io_priority = result;
  }
  JsonReader affinity = process.object("execCPUAffinity");
  to.initial_cpus = affinity.string("initial");
  to.final_cpus = affinity.string("final");
}

Process read_process(const JsonReader& process) {
  Process result;
  result.terminal = process.boolean("terminal");
  JsonReader size = process.object("consoleSize");
  if (size.present())
    result.console_size = {size.required_integer<std::uint16_t>("height"),
                           size.required_integer<std::uint16_t>("width")};
  JsonReader user = process.object("user");
  result.user.uid = user.integer<std::uint32_t>("uid").value_or(0);
  result.user.gid = user.integer<std::uint32_t>("gid").value_or(0);
  result.user.umask = user.integer<std::uint32_t>("umask");
  result.user.additional_gids = user.integers<std::uint32_t>("additionalGids");
  result.args = process.strings("args");
  result.env = process.strings("env");
  for (const auto& item : result.env)
    if (item.find('=') == std::string::npos || item.front() == '=')
      process.fail("env", "has an entry that is no NAME=VALUE");
  result.cwd = process.required_string("cwd");
  JsonReader capabilities = process.object("capabilities");
  if (capabilities.present())
    result.capabilities = Capabilities{capabilities.strings("bounding"), capabilities.strings("effective"),
                                       capabilities.strings("permitted"), capabilities.strings("inheritable"),
                                       capabilities.strings("ambient")};
  for (const auto& item : process.objects("rlimits"))
    result.rlimits.push_back({item.required_string("type"), item.required_integer<std::uint64_t>("soft"),
                              item.required_integer<std::uint64_t>("hard")});
  result.no_new_privileges = process.boolean("noNewPrivileges");
  result.oom_score_adj = process.integer<int>("oomScoreAdj");
  result.apparmor_profile = process.string("apparmorProfile");
  result.selinux_label = process.string("selinuxLabel");
  read_scheduling(process, result);
  return result;
}

Mount read_mount(const JsonReader& item) {
  Mount mount;
  mount.destination = item.required_string("destination");
  mount.type = item.string("type");
  mount.source = item.string("source");
  mount.options = item.strings("options");
  mount.uid_mappings = read_mappings(item, "uidMappings");
  mount.gid_mappings = read_mappings(item, "gidMappings");
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty())
    item.fail(mount.uid_mappings.empty() ? "uidMappings" : "gidMappings",
              "is missing: a mount is mapped by both or by none");
  return mount;
}

std::string find_annotation(const ContainerSpec& spec, const char* name) {
  auto found = spec.annotations.find(name);
  return found == spec.annotations.end() ? std::string() : found->second;
}

std::vector<Hook> read_hooks(const JsonReader& hooks, const char* name) {
  std::vector<Hook> list;
  for (const auto& item : hooks.objects(name)) {
    Hook hook;
    hook.path = item.required_string("path");
    if (!hook.path.starts_with('/')) item.fail("path", "must be absolute");
    hook.args = item.strings("args");
    if (item.has("env")) hook.env = item.strings("env");
    hook.timeout = item.integer<int>("timeout");
    if (hook.timeout && *hook.timeout <= 0) item.fail("timeout", "must be above 0");
    list.push_back(std::move(hook));
  }
  return list;
}

/// 1.0 to 1.3, and the pre-releases of them ("1.0.2-dev").
void check_version(const JsonReader& root, const std::string& version) {
  int major = -1;
  int minor = -1;
  const char* end = version.data() + version.size();
  auto first = std::from_chars(version.data(), end, major);
  if (first.ec == std::errc{} && first.ptr != end && *first.ptr == '.')
    std::from_chars(first.ptr + 1, end, minor);
  if (major != 1 || minor < 0 || minor > 3)
    root.fail("ociVersion", "is '" + version + "': this runtime implements 1.0 to 1.3");
}

ContainerSpec read_spec(const JsonReader& root) {
  ContainerSpec spec;
  spec.oci_version = root.required_string("ociVersion");
  check_version(root, spec.oci_version);
  for (const char* name : {"windows", "vm", "solaris", "zos", "freebsd"})
    if (!root.has("linux")) root.unsupported(name);
  if (!root.has("linux")) root.fail("linux", "is missing");
  JsonReader process = root.object("process");
  if (process.present()) spec.process = read_process(process);
  JsonReader rootfs = root.object("root");
  if (!rootfs.present()) root.fail("root", "is missing");
  spec.root.path = rootfs.present() ? rootfs.required_string("path") : "";
  spec.root.read_only = rootfs.boolean("readonly");
  spec.hostname = root.string("hostname");
  spec.domainname = root.string("domainname");
  for (const auto& item : root.objects("mounts")) spec.mounts.push_back(read_mount(item));
  spec.annotations = root.string_map("annotations");
  JsonReader hooks = root.object("hooks");
  spec.hooks = {read_hooks(hooks, "prestart"),
                read_hooks(hooks, "createRuntime"),
                read_hooks(hooks, "createContainer"),
                read_hooks(hooks, "startContainer"),
                read_hooks(hooks, "poststart"),
                read_hooks(hooks, "poststop"),
                find_annotation(spec, "run.oci.hooks.stdout"),
                find_annotation(spec, "run.oci.hooks.stderr")};
  read_linux(root.object("linux"), spec);
  std::string known_only = find_annotation(spec, "run.oci.seccomp_fail_unknown_syscall");
  if (spec.seccomp) spec.seccomp->known_calls_only = !known_only.empty() && known_only != "0";
  return spec;
}

/// Parses `text` and gives its root object to `read`.
template <class Read>
auto parse_with(std::string_view text, Read read) -> Result<decltype(read(std::declval<JsonReader>()))> {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return invalid_error("parse", "", "not JSON");
  if (!document.is_object()) return invalid_error("parse", "", "not a JSON object");
  std::optional<Error> error;
  auto value = read(JsonReader(document, "", error));
  if (error) return std::unexpected(std::move(*error));
  return value;
}

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::ranges::find(list, name) != list.end();
}

/// Go's name of this machine's architecture, as profile files use.
constexpr std::string_view machine_architecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#elif defined(__riscv)
  return "riscv64";
#elif defined(__powerpc64__)
  return "ppc64le";
#elif defined(__s390x__)
  return "s390x";
#else
  return "unknown";
#endif
}

constexpr std::string_view machine_seccomp_architecture() {
#if defined(__x86_64__)
  return "SCMP_ARCH_X86_64";
#elif defined(__aarch64__)
  return "SCMP_ARCH_AARCH64";
#elif defined(__riscv)
  return "SCMP_ARCH_RISCV64";
#elif defined(__powerpc64__)
  return "SCMP_ARCH_PPC64LE";
#elif defined(__s390x__)
  return "SCMP_ARCH_S390X";
#else
  return "";
#endif
}

/// A rule of a profile file applies: every include is met, no exclude is.
bool applies(const JsonReader& rule, const std::vector<std::string>& capabilities) {
  JsonReader includes = rule.object("includes");
  JsonReader excludes = rule.object("excludes");
  includes.unsupported("minKernel");
  excludes.unsupported("minKernel");
  auto any = [&](const std::vector<std::string>& names) {
    return std::ranges::any_of(names, [&](const auto& name) { return contains(capabilities, name); });
  };
  auto all = [&](const std::vector<std::string>& names) {
    return std::ranges::all_of(names, [&](const auto& name) { return contains(capabilities, name); });
  };
  auto arches = includes.strings("arches");
  if (!arches.empty() && !contains(arches, machine_architecture())) return false;
  if (contains(excludes.strings("arches"), machine_architecture())) return false;
  return all(includes.strings("caps")) && !any(excludes.strings("caps"));
}

Seccomp read_profile(const JsonReader& root, const std::vector<std::string>& capabilities) {
  Seccomp profile = read_seccomp(root);
  for (const auto& entry : root.objects("archMap")) {
    if (entry.string("architecture") != machine_seccomp_architecture()) continue;
    profile.architectures.push_back(entry.string("architecture"));
    for (auto& name : entry.strings("subArchitectures")) profile.architectures.push_back(std::move(name));
  }
  std::vector<JsonReader> sources = root.objects("syscalls");
  std::vector<SeccompRule> kept;
  for (std::size_t i = 0; i < sources.size() && i < profile.rules.size(); ++i)
    if (applies(sources[i], capabilities)) kept.push_back(std::move(profile.rules[i]));
  profile.rules = std::move(kept);
  if (profile.notifies())
    root.fail("syscalls", "has SCMP_ACT_NOTIFY, which needs a config.json of layerfs-oci");
  return profile;
}

}  // namespace

Result<ContainerSpec> parse_spec(std::string_view text) {
  LAYERFS_ASSIGN(ContainerSpec spec, parse_with(text, read_spec));
  LAYERFS_TRY(validate(spec));
  return spec;
}

Result<Process> parse_process(std::string_view text, const Process& container) {
  LAYERFS_ASSIGN(Process process, parse_with(text, [&](const JsonReader& root) {
                   Process read = read_process(root);
                   if (!root.has("capabilities")) read.capabilities = container.capabilities;
                   if (!root.has("noNewPrivileges")) read.no_new_privileges = container.no_new_privileges;
                   if (!root.has("rlimits")) read.rlimits = container.rlimits;
                   if (read.apparmor_profile.empty()) read.apparmor_profile = container.apparmor_profile;
                   if (read.selinux_label.empty()) read.selinux_label = container.selinux_label;
                   return read;
                 }));
  if (process.args.empty()) return invalid_error("field", "args", "is empty");
  LAYERFS_TRY(validate(process));
  return process;
}

Result<Resources> parse_resources(std::string_view text) { return parse_with(text, read_resources); }

Result<Seccomp> parse_seccomp_profile(std::string_view text, const std::vector<std::string>& capabilities) {
  return parse_with(text, [&](const JsonReader& root) { return read_profile(root, capabilities); });
}

}  // namespace layerfs::spec
