// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_run_options.h"

#include <pwd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>

#include "fs/base/sys_file.h"
#include "runtime/plan/capability_set.h"
#include "runtime/plan/id_map.h"
#include "runtime/spec/parse_spec.h"

namespace layerfs::tools {

namespace {

/// NAME=VALUE; a bare NAME takes the caller's value, and is nothing where the caller has none.
Result<void> add_env(const std::string& item, std::string_view option, std::vector<std::string>& env) {
  if (item.empty() || item.front() == '=') return invalid_error(option, item, "must be NAME=VALUE");
  if (item.find('=') != std::string::npos) {
    env.push_back(item);
  } else if (const char* value = std::getenv(item.c_str()); value != nullptr) {
    env.push_back(item + '=' + value);
  }
  return {};
}

Result<std::uint64_t> parse_count(const std::string& text, std::string_view option) {
  std::uint64_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size())
    return invalid_error(option, text, "must be a number");
  return value;
}

/// "0-1,3" (cpuset(7), "List format"). nullopt where it is none.
std::optional<std::set<unsigned>> parse_cpu_list(std::string_view text) {
  constexpr unsigned kMostCpus = 65536;
  std::set<unsigned> list;
  while (!text.empty()) {
    std::size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    unsigned first = 0;
    const char* end = item.data() + item.size();
    auto [rest, code] = std::from_chars(item.data(), end, first);
    if (code != std::errc{}) return std::nullopt;
    unsigned last = first;
    if (rest != end) {
      if (*rest != '-') return std::nullopt;
      auto [rest_of_last, last_code] = std::from_chars(rest + 1, end, last);
      if (last_code != std::errc{} || rest_of_last != end) return std::nullopt;
    }
    if (last < first || last >= kMostCpus) return std::nullopt;
    for (unsigned cpu = first; cpu <= last; ++cpu) list.insert(cpu);
  }
  if (list.empty()) return std::nullopt;
  return list;
}

/// The source as an absolute path: with "./", "../" or alone a path is meant from the working directory.
Result<std::string> absolute_volume(const std::string& text) {
  std::size_t colon = text.find(':');
  std::string source = text.substr(0, colon);
  if (colon == std::string::npos || source.starts_with('/')) return text;
  if (source != "." && source != ".." && !source.starts_with("./") && !source.starts_with("../"))
    return invalid_error("--volume", text,
                         "the source must be a path ('./" + source + "' is one): there are no named volumes");
  auto path = absolute_path(source);
  if (!path) return with_context(std::move(path).error(), "--volume", text);
  return *path + text.substr(colon);
}

/// What Podman gives to no user either (podman-run(1), volume option U): the system's directories, and the caller's
/// home.
Result<void> refuse_to_own(const plan::Volume& volume) {
  constexpr std::string_view kSystem[] = {
      "/",     "/bin", "/boot",  "/dev",   "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow",
      "/home", "/lib", "/lib64", "/media", "/opt", "/proc",       "/root",    "/run",
      "/sbin", "/srv", "/sys",   "/tmp",   "/usr", "/var",        "/var/lib", "/var/log"};
  const char* home = std::getenv("HOME");
  auto is_source = [&](std::string_view path) {
    std::error_code missing;  // then the mount says so
    return std::filesystem::equivalent(volume.source, path, missing);
  };
  if (std::ranges::none_of(kSystem, is_source) && !is_source(home == nullptr ? "" : home)) return {};
  return invalid_error("--volume", volume.source,
                       "with option 'U' it would change its owner, and is not yours to give");
}

/// DEVICE:RATE, as Podman takes it: a block device's path, and bytes or operations a second.
enum class RateUnit : std::uint8_t { kBytes, kOperations };
Result<void> add_throttles(const std::vector<std::string>& items, std::string_view option, RateUnit unit,
                           std::vector<spec::BlockThrottle>& to) {
  for (const auto& item : items) {
    std::size_t colon = item.rfind(':');
    if (colon == std::string::npos || colon == 0) return invalid_error(option, item, "must be DEVICE:RATE");
    std::string device = item.substr(0, colon);
    struct stat st;
    if (::stat(device.c_str(), &st) != 0) return system_error(errno, option, device);
    if (!S_ISBLK(st.st_mode)) return invalid_error(option, device, "is no block device");
    spec::BlockThrottle throttle{major(st.st_rdev), minor(st.st_rdev), 0};
    if (unit == RateUnit::kBytes) {
      LAYERFS_ASSIGN(std::int64_t rate, plan::parse_size(item.substr(colon + 1), option));
      throttle.rate = static_cast<std::uint64_t>(rate);
    } else {
      LAYERFS_ASSIGN(throttle.rate, parse_count(item.substr(colon + 1), option));
    }
    // The kernel's 0 is no limit.
    if (throttle.rate == 0) return invalid_error(option, item, "the rate must be at least 1");
    to.push_back(throttle);
  }
  return {};
}

Result<void> read_throttles(const RunArguments& arguments, spec::BlockIo& to) {
  LAYERFS_TRY(add_throttles(arguments.device_read_bps, "--device-read-bps", RateUnit::kBytes, to.read_bps));
  LAYERFS_TRY(
      add_throttles(arguments.device_write_bps, "--device-write-bps", RateUnit::kBytes, to.write_bps));
  LAYERFS_TRY(
      add_throttles(arguments.device_read_iops, "--device-read-iops", RateUnit::kOperations, to.read_iops));
  return add_throttles(arguments.device_write_iops, "--device-write-iops", RateUnit::kOperations,
                       to.write_iops);
}

/// The kernel answers EINVAL or ERANGE to a processor that is not there.
Result<void> check_cpus(const std::string& wanted) {
  auto online = read_file("/sys/devices/system/cpu/online", 4096);
  auto asked = parse_cpu_list(wanted);
  if (!asked) return invalid_error("--cpuset-cpus", wanted, "must be processors, as 0-1,3");
  if (!online) return {};  // the kernel judges
  while (!online->empty() && online->back() == '\n') online->pop_back();
  auto there = parse_cpu_list(*online);
  if (!there || std::ranges::includes(*there, *asked)) return {};
  return invalid_error("--cpuset-cpus", wanted, "there are " + *online);
}

Result<void> read_limits(const RunArguments& arguments, spec::Resources& to) {
  if (!arguments.memory.empty()) {
    LAYERFS_ASSIGN(to.memory_limit, plan::parse_size(arguments.memory, "--memory"));
    to.drop_zeros();  // as everywhere, 0 is no limit
  }
  if (to.memory_limit) {
    // The kernel starts a container's first process in the group: less than this and it cannot even begin.
    if (*to.memory_limit < (std::int64_t{6} << 20))
      return invalid_error("--memory", arguments.memory, "must be at least 6m");
    // As Podman: without a word about swap, as much again.
    to.memory_swap = *to.memory_limit * 2;
  }
  if (!arguments.memory_swap.empty() && arguments.memory_swap != "0") {
    if (!to.memory_limit) return invalid_error("--memory-swap", arguments.memory_swap, "needs --memory");
    if (arguments.memory_swap == "-1") {
      to.memory_swap = -1;
    } else {
      LAYERFS_ASSIGN(to.memory_swap, plan::parse_size(arguments.memory_swap, "--memory-swap"));
      if (*to.memory_swap < *to.memory_limit)
        return invalid_error("--memory-swap", arguments.memory_swap,
                             "counts memory and swap together: it is below --memory");
    }
  }
  if (!arguments.memory_reservation.empty()) {
    LAYERFS_ASSIGN(to.memory_reservation,
                   plan::parse_size(arguments.memory_reservation, "--memory-reservation"));
  }
  if (!arguments.cpus.empty() && arguments.cpus != "0") {
    LAYERFS_ASSIGN(to.cpu_quota, plan::parse_cpus(arguments.cpus));
    to.cpu_period = 100'000;
  }
  if (!arguments.cpu_shares.empty()) {
    LAYERFS_ASSIGN(to.cpu_shares, parse_count(arguments.cpu_shares, "--cpu-shares"));
    if (*to.cpu_shares == 1) return invalid_error("--cpu-shares", arguments.cpu_shares, "must be at least 2");
  }
  if (!arguments.cpuset_cpus.empty()) LAYERFS_TRY(check_cpus(arguments.cpuset_cpus));
  to.cpuset_cpus = arguments.cpuset_cpus;
  if (!arguments.pids_limit.empty() && arguments.pids_limit != "-1") {
    LAYERFS_ASSIGN(std::uint64_t limit, parse_count(arguments.pids_limit, "--pids-limit"));
    // Our init is one of the container's processes, and not one that the user counts.
    if (limit != 0) to.pids_limit = static_cast<std::int64_t>(limit) + (arguments.no_init ? 0 : 1);
  }
  to.drop_zeros();
  return read_throttles(arguments, to.block_io);
}

Result<void> read_security(const RunArguments& arguments, plan::RunOptions& options) {
  for (const auto& text : arguments.security_opts) {
    if (text == "no-new-privileges" || text == "no-new-privileges:true" || text == "no-new-privileges=true") {
      options.no_new_privileges = true;
    } else if (text == "no-new-privileges=false" || text == "no-new-privileges:false") {
      options.no_new_privileges = false;
    } else if (text == "seccomp=unconfined") {
      options.seccomp_unconfined = true;
    } else if (text.starts_with("seccomp=")) {
      LAYERFS_ASSIGN(std::string profile, read_file(text.substr(8)));
      LAYERFS_ASSIGN(auto capabilities, plan::adjust_capabilities(arguments.cap_add, arguments.cap_drop));
      auto parsed = spec::parse_seccomp_profile(profile, capabilities);
      if (!parsed) return with_context(parsed.error(), "--security-opt", text);
      options.seccomp = std::move(*parsed);
    } else {
      return invalid_error("--security-opt", text,
                           "must be no-new-privileges, seccomp=FILE or seccomp=unconfined");
    }
  }
  return {};
}

std::string user_name(std::uint32_t uid) {
  const passwd* entry = ::getpwuid(uid);
  return entry == nullptr ? std::string() : entry->pw_name;
}

bool has_program(const char* name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  while (!rest.empty()) {
    std::size_t colon = rest.find(':');
    if (::access((std::string(rest.substr(0, colon)) + '/' + name).c_str(), X_OK) == 0) return true;
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return false;
}

}  // namespace

Result<std::vector<std::string>> parse_env_file(const std::string& text, const std::string& path) {
  std::vector<std::string> env;
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    std::size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    line.erase(0, first);
    while (line.back() == '\r') line.pop_back();
    if (auto added = add_env(line, "--env-file", env); !added) return with_context(added.error(), "", path);
  }
  return env;
}

Result<std::map<std::string, std::string>> parse_labels(const std::vector<std::string>& items) {
  std::map<std::string, std::string> labels;
  for (const auto& item : items) {
    std::size_t equals = item.find('=');
    if (equals == 0 || item.empty()) return invalid_error("--label", item, "must be NAME=VALUE");
    labels[item.substr(0, equals)] = equals == std::string::npos ? std::string() : item.substr(equals + 1);
  }
  return labels;
}

Result<plan::RunOptions> make_run_options(const RunArguments& arguments) {
  plan::RunOptions options;
  options.command = arguments.command;
  if (arguments.has_entrypoint) options.entrypoint = arguments.entrypoint;
  for (const auto& path : arguments.env_files) {
    LAYERFS_ASSIGN(std::string text, read_file(path));
    LAYERFS_ASSIGN(auto lines, parse_env_file(text, path));
    options.env.insert(options.env.end(), lines.begin(), lines.end());
  }
  for (const auto& item : arguments.env) LAYERFS_TRY(add_env(item, "--env", options.env));
  options.working_dir = arguments.working_dir;
  options.user = arguments.user;
  options.hostname = arguments.hostname;
  for (const auto& text : arguments.volumes) {
    LAYERFS_ASSIGN(std::string absolute, absolute_volume(text));
    LAYERFS_ASSIGN(auto volume, plan::parse_volume(absolute));
    if (volume.owned_by_user) LAYERFS_TRY(refuse_to_own(volume));
    options.volumes.push_back(std::move(volume));
  }
  options.tmpfs = arguments.tmpfs;
  options.cap_add = arguments.cap_add;
  options.cap_drop = arguments.cap_drop;
  options.network = arguments.network == "host" ? plan::RunNetwork::kHost : plan::RunNetwork::kNone;
  options.terminal = arguments.terminal;
  options.read_only = arguments.read_only;
  if (const char* terminal = std::getenv("TERM"); terminal != nullptr && *terminal != '\0')
    options.terminal_type = terminal;
  LAYERFS_TRY(read_limits(arguments, options.resources));
  LAYERFS_TRY(read_security(arguments, options));
  return options;
}

Result<void> choose_id_maps(const plan::HostFacts& host, plan::RunOptions& options) {
  if (host.privileged) return {};
  std::string name = user_name(host.uid);
  auto ranges = [&](const char* file, std::uint32_t id) {
    auto text = read_file(file);
    return text ? plan::parse_sub_ids(*text, name, id) : std::vector<plan::SubIdRange>{};
  };
  // /etc/subgid is by user, too (subgid(5)).
  auto uids = ranges("/etc/subuid", host.uid);
  auto gids = ranges("/etc/subgid", host.uid);
  if (uids.empty() || gids.empty() || !has_program("newuidmap") || !has_program("newgidmap")) {
    uids.clear();
    gids.clear();
  }
  options.uid_map = plan::rootless_map(host.uid, uids);
  options.gid_map = plan::rootless_map(host.gid, gids);
  return {};
}

}  // namespace layerfs::tools
