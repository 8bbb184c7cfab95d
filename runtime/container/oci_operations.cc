// SPDX-License-Identifier: Apache-2.0
// OciRuntime: state, kill, delete, pause, resume, list.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "runtime/container/hooks.h"
#include "runtime/container/host.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/container/oci_support.h"
#include "runtime/container/resctrl.h"
#include "runtime/container/systemd_scope.h"
#include "runtime/sys/clone.h"
#include "runtime/sys/mount_top.h"

namespace layerfs::container {

namespace {

constexpr int kDeathTimeout = 10'000;    // ms that a killed process may take to go
constexpr int kCreationTimeout = 1'000;  // ms that state waits for a create that is under way
constexpr int kUnlockedTimeout = 10;     // ms without a lock after which there is none under way

struct SignalName {
  std::string_view name;
  int number;
};
constexpr std::array<SignalName, 31> kSignals{{
    {"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"ILL", SIGILL},   {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT},     {"BUS", SIGBUS},   {"FPE", SIGFPE},     {"KILL", SIGKILL}, {"USR1", SIGUSR1},
    {"SEGV", SIGSEGV},     {"USR2", SIGUSR2}, {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
    {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"PWR", SIGPWR},
    {"SYS", SIGSYS},
}};

Result<void> wait_for_death(int pidfd, const std::string& id) {
  pollfd process{pidfd, POLLIN, 0};
  if (::poll(&process, 1, kDeathTimeout) > 0) return {};
  return system_error(ETIMEDOUT, "wait for the end of container", id);
}

}  // namespace

Result<Fd> open_init(const ContainerState& state) {
  if (state.pid <= 0) return Fd();
  auto pidfd = sys::open_pidfd(state.pid);
  if (!pidfd && pidfd.error().code == ESRCH) return Fd();
  if (!pidfd) return pidfd;
  // Read after the descriptor was opened: if the time fits, the descriptor is the init's.
  LAYERFS_ASSIGN(auto start_time, sys::find_start_time(state.pid));
  if (!start_time || *start_time != state.start_time) return Fd();
  return pidfd;
}

Result<int> parse_signal(const std::string& text) {
  int number = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code == std::errc{} && end == text.data() + text.size()) {
    if (number >= 0 && number < NSIG) return number;
    return invalid_error("signal", text, "is out of range");
  }
  std::string name;
  for (char c : text) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name.starts_with("SIG")) name.erase(0, 3);
  if (const auto* found = std::ranges::find(kSignals, name, &SignalName::name); found != kSignals.end())
    return found->number;
  if (name == "RTMIN") return SIGRTMIN;
  if (name == "RTMAX") return SIGRTMAX;
  if (name.starts_with("RTMIN+")) {
    int offset = std::atoi(name.c_str() + 6);
    if (offset >= 0 && SIGRTMIN + offset <= SIGRTMAX) return SIGRTMIN + offset;
  }
  return invalid_error("signal", text, "is not known");
}

Result<void> unmount_shared_root(const ContainerState& state) {
  if (state.callers_mount == 0) return {};
  // The root is bound onto itself (BindRoot), and all other mounts lie on that.
  LAYERFS_ASSIGN(bool found, sys::detach_above(state.callers_root, state.callers_mount));
  if (!found && state.ready)
    return invalid_error("unmount", state.callers_root, "the container's mounts are not there any more");
  return {};
}

Result<void> write_file_plain(const std::string& path, std::string_view text) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  return write_full(fd.get(), std::as_bytes(std::span(text)));
}

Result<std::string> OciRuntime::state(const std::string& id) {
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  // Who runs `create` and asks at once means the container that is going to be there. Never a hook of it:
  // those are told that it is being created, and create waits for them.
  auto has_hooks = [&] {
    auto spec = stored_spec(id);
    return spec && !(spec->hooks.prestart.empty() && spec->hooks.create_runtime.empty() &&
                     spec->hooks.create_container.empty());
  };
  // A create that has only just begun holds no lock yet; one that died holds none any more.
  for (int waited = 0, unlocked = 0; status == Status::kCreating && waited < kCreationTimeout; ++waited) {
    unlocked = store_.is_locked(id) ? 0 : unlocked + 1;
    if (unlocked == kUnlockedTimeout || has_hooks()) break;
    ::poll(nullptr, 0, 1);
    LAYERFS_ASSIGN(state, store_.read(id));
    LAYERFS_ASSIGN(status, find_status(store_, state));
  }
  return state_json(state, status);
}

Result<void> OciRuntime::kill(const std::string& id, int signal, Target target) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  sys::CgroupDirs cgroup(state.cgroups);
  if (target == Target::kAll && !cgroup.empty()) {
    LAYERFS_ASSIGN(auto list, cgroup.processes());
    if (signal == SIGKILL && !list.empty()) return cgroup.kill_all();
    for (pid_t pid : list)
      if (::kill(pid, signal) != 0 && errno != ESRCH) return system_error(errno, "kill", std::to_string(pid));
    if (!list.empty()) return {};
  }
  LAYERFS_ASSIGN(Fd init, open_init(state));
  if (!init) return invalid_error("kill container", id, "is not running");
  return sys::send_signal(init.get(), signal);
}

Result<void> OciRuntime::remove_locked(const std::string& id, const ContainerState& state) {
  LAYERFS_ASSIGN(Fd init, open_init(state));
  sys::CgroupDirs cgroup(state.cgroups);
  if (init) {
    LAYERFS_TRY(sys::send_signal(init.get(), SIGKILL));
    // A frozen process dies only when it is thawed (v1).
    if (cgroup.is_frozen()) LAYERFS_TRY(cgroup.set_state(sys::CgroupDirs::State::kThawed));
    cgroup.take_from_freezers(state.pid);
    LAYERFS_TRY(wait_for_death(init.get(), id));
  }
  // Without a pid namespace of its own its processes outlive the init.
  LAYERFS_TRY(cgroup.kill_all());
  if (state.scope.empty()) {
    LAYERFS_TRY(cgroup.remove());
  } else {
    LAYERFS_ASSIGN(plan::HostFacts host, read_host_facts());
    LAYERFS_TRY(stop_scope(host, state.scope, cgroup));
  }
  LAYERFS_TRY(remove_resctrl(state.resctrl));
  if (auto unmounted = unmount_shared_root(state); !unmounted) log_warning("{}", unmounted.error().message());
  if (auto spec = stored_spec(id); spec) run_poststop_hooks(spec->hooks, state_json(state, Status::kStopped));
  return store_.remove(id);
}

Result<void> OciRuntime::remove(const std::string& id, Force force) {
  auto locked = store_.lock(id);
  if (!locked && force == Force::kYes && locked.error().code == ENOENT) return {};
  if (!locked) return std::unexpected(locked.error());
  auto state = store_.read(id);
  if (!state && force == Force::kNo) return std::unexpected(state.error());
  if (!state) return store_.remove(id);  // damaged: nothing is known but the directory
  LAYERFS_ASSIGN(Status status, find_status(store_, *state));
  if (force == Force::kNo && status != Status::kStopped && status != Status::kCreated)
    return invalid_error("delete container", id, "is " + std::string(to_text(status)) + ", not stopped");
  return remove_locked(id, *state);
}

Result<void> OciRuntime::pause(const std::string& id) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  if (status != Status::kRunning && status != Status::kCreated)
    return invalid_error("pause container", id, "is " + std::string(to_text(status)));
  return sys::CgroupDirs(state.cgroups).set_state(sys::CgroupDirs::State::kFrozen);
}

Result<void> OciRuntime::resume(const std::string& id) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  if (status != Status::kPaused)
    return invalid_error("resume container", id, "is " + std::string(to_text(status)));
  return sys::CgroupDirs(state.cgroups).set_state(sys::CgroupDirs::State::kThawed);
}

Result<std::vector<pid_t>> OciRuntime::processes(const std::string& id) {
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  if (state.cgroups.empty())
    return unsupported_error("list processes of container", id, "it has no cgroup of its own");
  return sys::CgroupDirs(state.cgroups).processes();
}

Result<std::vector<OciRuntime::Listed>> OciRuntime::list() {
  LAYERFS_ASSIGN(auto names, store_.list());
  std::ranges::sort(names);
  std::vector<Listed> list;
  for (const auto& name : names) {
    auto state = store_.read(name);
    if (!state) {
      log_warning("{}", state.error().message());
      continue;
    }
    LAYERFS_ASSIGN(Status status, find_status(store_, *state));
    list.push_back({std::move(*state), status});
  }
  return list;
}

}  // namespace layerfs::container
