// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/run_spec.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "runtime/plan/capability_set.h"
#include "runtime/plan/id_map.h"
#include "runtime/plan/seccomp_default.h"

namespace layerfs::plan {

namespace {

constexpr std::string_view kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string_view env_name(std::string_view item) { return item.substr(0, item.find('=')); }

void set_env(std::vector<std::string>& env, const std::string& item) {
  auto same = [&](const std::string& have) { return env_name(have) == env_name(item); };
  auto found = std::ranges::find_if(env, same);
  if (found != env.end())
    *found = item;
  else
    env.push_back(item);
}

bool has_env(const std::vector<std::string>& env, std::string_view name) {
  return std::ranges::any_of(env, [&](const std::string& item) { return env_name(item) == name; });
}

/// What an engine says by itself stands behind what the image says (as Docker and Podman have it), and that
/// behind what the user says.
std::vector<std::string> make_env(const spec::ImageDefaults& image, const RunOptions& options) {
  std::vector<std::string> env;
  for (const auto& item : image.env)
    if (item.find('=') != std::string::npos) set_env(env, item);
  auto set_default = [&](const std::string& item) {
    if (!has_env(env, env_name(item))) env.push_back(item);
  };
  set_default(std::string(kDefaultPath));
  if (options.terminal) set_default("TERM=" + options.terminal_type);
  set_default("container=layerfs");
  if (!options.hostname.empty()) set_default("HOSTNAME=" + options.hostname);
  for (const auto& item : options.env) set_env(env, item);
  return env;
}

Result<std::vector<std::string>> make_args(const spec::ImageDefaults& image, const RunOptions& options) {
  std::vector<std::string> args;
  if (options.entrypoint) {
    if (!options.entrypoint->empty()) args.push_back(*options.entrypoint);
  } else {
    args = image.entrypoint;
  }
  // A new entrypoint drops the image's Cmd, which was meant for the old one.
  const auto& rest = options.command.empty() && !options.entrypoint ? image.cmd : options.command;
  args.insert(args.end(), rest.begin(), rest.end());
  if (args.empty()) return invalid_error("run", "", "the image names no command, and none was given");
  return args;
}

Result<spec::Process> make_process(const spec::ImageDefaults& image, const RunOptions& options) {
  spec::Process process;
  LAYERFS_ASSIGN(process.args, make_args(image, options));
  process.env = make_env(image, options);
  process.cwd = !options.working_dir.empty() ? options.working_dir : image.working_dir;
  if (process.cwd.empty()) process.cwd = "/";
  if (!process.cwd.starts_with('/'))
    return invalid_error("working directory", process.cwd, "must be absolute");
  process.user.lookup = !options.user.empty() ? options.user : image.user;
  if (process.user.lookup.empty()) process.user.lookup = "0";  // with the groups that the image gives root
  process.terminal = options.terminal;
  process.no_new_privileges = options.no_new_privileges;
  LAYERFS_ASSIGN(auto capabilities, adjust_capabilities(options.cap_add, options.cap_drop));
  // Also for a user other than root: the kernel takes effective and permitted away at setresuid(2), as Podman
  // does.
  process.capabilities = spec::Capabilities{capabilities, capabilities, capabilities, {}, {}};
  return process;
}

std::vector<spec::Mount> system_mounts(const RunOptions& options) {
  bool maps_tty = options.gid_map.empty() || maps_id(options.gid_map, 5);
  std::vector<std::string> pts{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (maps_tty) pts.emplace_back("gid=5");
  std::vector<spec::Mount> mounts{
      {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
      // nodev: what is in /dev is bound from the host, and nothing else made there can be opened.
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "noexec", "nodev", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts", "devpts", "devpts", pts},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
  };
  if (options.resources.has_limits())
    mounts.push_back({"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}});
  return mounts;
}

Result<void> add_user_mounts(const RunOptions& options, std::vector<spec::Mount>& mounts) {
  auto covered = [&](std::string_view path) {
    return std::ranges::any_of(options.volumes,
                               [&](const Volume& volume) { return volume.destination == path; });
  };
  if (!options.files_dir.empty())
    for (const char* name : {"resolv.conf", "hosts", "hostname"}) {
      std::string destination = std::string("/etc/") + name;
      if (covered(destination)) continue;
      mounts.push_back({destination,
                        "bind",
                        options.files_dir + '/' + name,
                        {"bind", "nosuid", "nodev", "noexec", "rprivate"}});
    }
  for (const auto& text : options.tmpfs) {
    std::size_t colon = text.find(':');
    spec::Mount mount{text.substr(0, colon), "tmpfs", "tmpfs", {"nosuid", "nodev", "noexec"}};
    if (!mount.destination.starts_with('/'))
      return invalid_error("--tmpfs", text, "must be an absolute path");
    std::string_view rest =
        colon == std::string::npos ? std::string_view{} : std::string_view(text).substr(colon + 1);
    while (!rest.empty()) {
      std::size_t comma = rest.find(',');
      mount.options.emplace_back(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    }
    mounts.push_back(std::move(mount));
  }
  for (const auto& volume : options.volumes) {
    mounts.push_back({volume.destination, "bind", volume.source, volume.options});
    mounts.back().owned_by_user = volume.owned_by_user;
  }
  return {};
}

void add_namespaces(const RunOptions& options, spec::ContainerSpec& spec) {
  using spec::NamespaceKind;
  if (!options.uid_map.empty()) spec.namespaces.push_back({NamespaceKind::kUser, {}});
  for (auto kind : {NamespaceKind::kMount, NamespaceKind::kPid, NamespaceKind::kIpc, NamespaceKind::kUts,
                    NamespaceKind::kCgroup})
    spec.namespaces.push_back({kind, {}});
  if (options.network == RunNetwork::kNone) spec.namespaces.push_back({NamespaceKind::kNetwork, {}});
}

}  // namespace

const std::vector<std::string>& default_masked_paths() {
  static const std::vector<std::string> paths{
      "/proc/acpi",       "/proc/asound",        "/proc/interrupts",  "/proc/kcore",
      "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
      "/proc/timer_list", "/proc/timer_stats",   "/sys/dev/block",    "/sys/devices/virtual/powercap",
      "/sys/firmware",    "/sys/fs/selinux"};
  return paths;
}

const std::vector<std::string>& default_readonly_paths() {
  static const std::vector<std::string> paths{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                              "/proc/sysrq-trigger"};
  return paths;
}

Result<spec::ContainerSpec> make_run_spec(const spec::ImageDefaults& image, const RunOptions& options) {
  spec::ContainerSpec spec;
  LAYERFS_ASSIGN(spec.process, make_process(image, options));
  spec.root.read_only = options.read_only;
  spec.hostname = options.hostname;
  spec.mounts = system_mounts(options);
  LAYERFS_TRY(add_user_mounts(options, spec.mounts));
  add_namespaces(options, spec);
  spec.uid_mappings = options.uid_map;
  spec.gid_mappings = options.gid_map;
  spec.resources = options.resources;
  spec.masked_paths = default_masked_paths();
  // How a processor is throttled tells what else the machine does.
  for (unsigned cpu = 0; cpu < options.processors; ++cpu)
    spec.masked_paths.push_back("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/thermal_throttle");
  spec.readonly_paths = default_readonly_paths();
  if (options.seccomp)
    spec.seccomp = options.seccomp;
  else if (!options.seccomp_unconfined)
    spec.seccomp = default_seccomp(spec.process.capabilities->bounding,
                                   options.uid_map.empty() ? ContainerUsers::kHosts : ContainerUsers::kOwn);
  return spec;
}

Result<Volume> parse_volume(std::string_view text) {
  std::size_t first = text.find(':');
  if (first == std::string_view::npos)
    return invalid_error("--volume", text, "must be SOURCE:DESTINATION[:OPTIONS]");
  std::string_view rest = text.substr(first + 1);
  std::size_t second = rest.find(':');
  Volume volume{std::string(text.substr(0, first)), std::string(rest.substr(0, second)), {"rbind"}};
  if (!volume.source.starts_with('/'))
    return invalid_error("--volume", text, "the source must be an absolute path");
  if (!volume.destination.starts_with('/') || volume.destination == "/")
    return invalid_error("--volume", text, "the destination must be an absolute path below '/'");
  // Set-id programs and device nodes of the host stay powerless.
  std::vector<std::string> flags{"nosuid", "nodev"};
  bool propagates = false;
  std::string_view list = second == std::string_view::npos ? std::string_view{} : rest.substr(second + 1);
  while (!list.empty()) {
    std::size_t comma = list.find(',');
    std::string_view option = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    constexpr std::string_view kTaken[] = {"ro",     "rw",  "exec",  "noexec", "suid",
                                           "nosuid", "dev", "nodev", "rro"};
    // What other engines' users write and what has no meaning here: labels of SELinux (z, Z), which a FUSE
    // root does not have, and Docker's words for the consistency of its virtual machine's disk.
    constexpr std::string_view kMeaningless[] = {"z", "Z", "cached", "delegated", "consistent"};
    if (option == "bind") {
      volume.options.front() = "bind";
    } else if (option == "U") {
      volume.owned_by_user = true;
    } else if (spec::find_propagation(option)) {
      propagates = true;
      flags.emplace_back(option);
    } else if (std::ranges::find(kTaken, option) != std::end(kTaken)) {
      flags.emplace_back(option);
    } else if (option != "rbind" && !option.empty() &&
               std::ranges::find(kMeaningless, option) == std::end(kMeaningless)) {
      return invalid_error("--volume", text, "'" + std::string(option) + "' is no option of a volume");
    }
  }
  volume.options.insert(volume.options.end(), flags.begin(), flags.end());
  if (!propagates) volume.options.emplace_back("rprivate");
  return volume;
}

Result<std::int64_t> parse_size(std::string_view text, std::string_view option) {
  double value = 0;
  const char* end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data(), end, value);
  double factor = 1;
  if (code == std::errc{} && rest != end) {
    constexpr std::string_view kUnits = "bkmgt";
    std::size_t unit = kUnits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(*rest))));
    bool suffix = rest + 1 == end ||
                  (rest + 2 == end && unit != 0 && std::tolower(static_cast<unsigned char>(rest[1])) == 'b');
    if (unit == std::string_view::npos || !suffix) code = std::errc::invalid_argument;
    factor = std::pow(1024.0, static_cast<double>(unit));
  }
  double bytes = value * factor;
  if (code != std::errc{} || !(bytes >= 0) || bytes > 9.2e18)
    return invalid_error(option, text, "is no size: a number with b, k, m, g or t");
  return static_cast<std::int64_t>(bytes);
}

Result<std::int64_t> parse_cpus(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data(), end, value);
  // The kernel takes no quota below 1 ms (cpu.cfs_quota_us).
  if (code != std::errc{} || rest != end || !(value >= 0.01) || value > 1e6)
    return invalid_error("--cpus", text, "must be a number of cpus, at least 0.01");
  return static_cast<std::int64_t>(std::llround(value * 100'000));
}

}  // namespace layerfs::plan
