// SPDX-License-Identifier: Apache-2.0
// OciRuntime::exec: one more process in the namespaces, groups and root of a running container.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/container/foreground.h"
#include "runtime/container/host.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/container/oci_support.h"
#include "runtime/container/resctrl.h"
#include "runtime/container/sealed_self.h"
#include "runtime/container/systemd_scope.h"
#include "runtime/plan/user_lookup.h"
#include "runtime/spec/parse_spec.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {

namespace {

Result<void> set_user(const std::string& text, spec::User& user) {
  auto number = [&](std::string_view part) -> Result<std::uint32_t> {
    auto id = plan::find_id(part);
    if (!id) return invalid_error("--user", text, "must be UID[:GID], each an id");
    return *id;
  };
  std::size_t colon = text.find(':');
  LAYERFS_ASSIGN(user.uid, number(std::string_view(text).substr(0, colon)));
  if (colon != std::string::npos) {
    LAYERFS_ASSIGN(user.gid, number(std::string_view(text).substr(colon + 1)));
  }
  user.additional_gids.clear();
  return {};
}

/// The process that is to run: a file's, or the container's own with what the command line changes.
Result<spec::Process> make_process(const ExecRequest& request, const spec::ContainerSpec& container) {
  if (!request.process_file.empty()) {
    LAYERFS_ASSIGN(std::string text, read_file(request.process_file));
    auto process = spec::parse_process(text, container.process);
    if (!process) return with_context(process.error(), "", request.process_file);
    return process;
  }
  spec::Process process = container.process;
  process.terminal = request.terminal;
  process.console_size = {};
  process.oom_score_adj.reset();
  if (!request.args) return invalid_error("exec", request.id, "names no command");
  process.args = *request.args;
  if (!request.cwd.empty()) process.cwd = request.cwd;
  if (!request.user.empty()) LAYERFS_TRY(set_user(request.user, process.user));
  for (const auto& item : request.env) {
    if (item.find('=') == std::string::npos || item.front() == '=')
      return invalid_error("--env", item, "must be NAME=VALUE");
    process.env.push_back(item);  // the last of a name counts
  }
  if (!request.capabilities.empty() && !process.capabilities) process.capabilities.emplace();
  for (const auto& name : request.capabilities)
    for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective,
                      &process.capabilities->permitted})
      if (std::ranges::find(*set, name) == set->end()) set->push_back(name);
  process.no_new_privileges = process.no_new_privileges || request.no_new_privileges;
  if (!request.apparmor_profile.empty()) process.apparmor_profile = request.apparmor_profile;
  if (!request.selinux_label.empty()) process.selinux_label = request.selinux_label;
  auto& groups = process.user.additional_gids;
  groups.insert(groups.end(), request.additional_gids.begin(), request.additional_gids.end());
  return process;
}

/// The container's groups; but on v2 no process can join one that gives controllers to groups below it ("no
/// internal processes", cgroups(7)), as a container with an init of its own may do: then the group that its
/// init is in.
Result<sys::CgroupDirs> find_groups_of_init(const std::vector<std::string>& own, pid_t pid) {
  LAYERFS_ASSIGN(std::string mountinfo, read_file("/proc/self/mountinfo"));
  LAYERFS_ASSIGN(std::string text, read_file("/proc/" + std::to_string(pid) + "/cgroup"));
  plan::CgroupLayout layout = plan::parse_cgroup_layout(parse_mount_info(mountinfo), text);
  const plan::CgroupHierarchy* unified = layout.find_unified();
  std::vector<std::string> paths;
  for (const auto& path : own) {
    paths.push_back(path);
    if (unified == nullptr) continue;
    auto given = read_file(path + "/cgroup.subtree_control", 4096);
    std::string of_init = unified->mount_point + unified->own_path;
    if (given && given->find_first_not_of(" \n") != std::string::npos && of_init.starts_with(path + '/'))
      paths.back() = of_init;
  }
  return sys::CgroupDirs(std::move(paths));
}

/// The one below the container's groups that `name` says, where a hierarchy has it.
Result<sys::CgroupDirs> find_exec_groups(const std::vector<std::string>& own, const std::string& name) {
  if (('/' + name + '/').find("/../") != std::string::npos)
    return invalid_error("--cgroup", name, "`..` components are not allowed");
  std::vector<std::string> paths;
  bool found = false;
  for (const auto& path : own) {
    std::string below = path + '/' + name;
    bool there = ::access((below + "/cgroup.procs").c_str(), F_OK) == 0;
    paths.push_back(there ? below : path);
    found = found || there;
  }
  if (!found) return system_error(ENOENT, "--cgroup", name);
  return sys::CgroupDirs(std::move(paths));
}

/// Every namespace of `pid` that is not ours already.
Result<std::vector<spec::Namespace>> namespaces_of(pid_t pid) {
  using spec::NamespaceKind;
  std::vector<spec::Namespace> joins;
  for (auto kind :
       {NamespaceKind::kUser, NamespaceKind::kIpc, NamespaceKind::kUts, NamespaceKind::kNetwork,
        NamespaceKind::kPid, NamespaceKind::kCgroup, NamespaceKind::kTime, NamespaceKind::kMount}) {
    std::string name(spec::proc_name(kind));
    std::string theirs = "/proc/" + std::to_string(pid) + "/ns/" + name;
    struct stat their_st;
    struct stat our_st;
    if (::stat(theirs.c_str(), &their_st) != 0) {
      if (errno == ENOENT && kind == NamespaceKind::kTime) continue;  // before Linux 5.6
      return system_error(errno, "open namespace", theirs);
    }
    std::string ours = "/proc/self/ns/" + name;
    bool same = ::stat(ours.c_str(), &our_st) == 0 && our_st.st_ino == their_st.st_ino &&
                our_st.st_dev == their_st.st_dev;
    if (!same) joins.push_back({kind, theirs});
  }
  return joins;
}

}  // namespace

Result<int> OciRuntime::exec(const ExecRequest& request) {
  Fd signal_fd;
  if (!request.detach) {
    LAYERFS_ASSIGN(signal_fd, make_signal_fd());
  }
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(request.id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(request.id));
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  bool paused = status == Status::kPaused && request.ignore_paused;
  if (status != Status::kRunning && status != Status::kCreated && !paused)
    return invalid_error("exec in container", request.id,
                         "is " + std::string(to_text(status)) + ", not running");
  InitRequest init_request;
  LAYERFS_ASSIGN(init_request.plan.joins, namespaces_of(state.pid));
  // The paths are of a pid: the container's still, if its time still fits after they were read.
  LAYERFS_ASSIGN(auto start_time, sys::find_start_time(state.pid));
  if (!start_time || *start_time != state.start_time)
    return invalid_error("exec in container", request.id, "has just stopped");
  // Here, before anything is read that can be read only once. The copy takes the lock again.
  if (shows_itself_in(init_request.plan.joins)) LAYERFS_TRY(become_sealed());
  LAYERFS_ASSIGN(spec::ContainerSpec container, stored_spec(request.id));
  LAYERFS_ASSIGN(spec::Process process, make_process(request, container));
  if (process.terminal && request.detach && request.console_socket.empty())
    return invalid_error("exec in container", request.id, "a detached terminal needs --console-socket");

  LAYERFS_ASSIGN(plan::HostFacts host, read_host_facts());
  LAYERFS_ASSIGN(sys::CgroupDirs groups, request.cgroup.empty()
                                             ? find_groups_of_init(state.cgroups, state.pid)
                                             : find_exec_groups(state.cgroups, request.cgroup));
  LAYERFS_ASSIGN(init_request.plan.process, plan::plan_process(process, host));
  LAYERFS_TRY(plan::plan_inherited(container, init_request.plan.process));
  // A single-id namespace made by an ordinary user denies setgroups(2) for ever.
  LAYERFS_ASSIGN(std::string setgroups, read_file("/proc/" + std::to_string(state.pid) + "/setgroups", 64));
  init_request.plan.process.set_groups = !setgroups.starts_with("deny");
  auto is_home = [](const std::string& item) { return item.starts_with("HOME="); };
  if (std::ranges::none_of(process.env, is_home)) init_request.plan.steps.emplace_back(plan::ResolveUser{});
  if (process.terminal)
    init_request.plan.steps.emplace_back(
        plan::ConsoleStep{process.console_size.height, process.console_size.width, false});
  if (container.seccomp) {
    LAYERFS_ASSIGN(init_request.seccomp, make_seccomp_program(*container.seccomp));
  }
  LAYERFS_ASSIGN(init_request.stage_program, make_final_stage());
  LAYERFS_TRY(keep_descriptors(request.preserve_fds, init_request));
  init_request.joins_mounts = true;
  if (state.callers_mount != 0) init_request.shared_root = state.rootfs;
  if (container.seccomp) LAYERFS_TRY(connect_listener(*container.seccomp, state, status, init_request));
  if (!request.console_socket.empty()) {
    LAYERFS_ASSIGN(init_request.console_socket, connect_console_socket(request.console_socket));
  } else {
    take_callers_size(init_request.plan.steps);
  }
  if (container.intel_rdt) {
    LAYERFS_ASSIGN(init_request.plan.resctrl,
                   plan::plan_resctrl(*container.intel_rdt, host.resctrl, request.id));
  }
  auto join = [&](pid_t pid) -> Result<void> {
    if (init_request.plan.resctrl) LAYERFS_TRY(join_resctrl(*init_request.plan.resctrl, pid));
    return state.scope.empty() ? groups.add(pid) : join_scope(host, state.scope, groups, pid);
  };
  init_request.creators_fds = {locked.lock.get()};
  LAYERFS_ASSIGN(LaunchedInit init, launch(init_request, join));
  ScopeExit kill_init([&] { init.destroy(); });
  // It goes on when somebody resumes the container, which takes the lock.
  if (paused) locked.unlock();
  Fd master;
  LaunchEvents events;
  events.fuse_device = [](Fd, Fd) { return system_error(EPROTO, "unexpected FUSE device"); };
  events.console = [&](Fd fd) -> Result<void> {
    master = std::move(fd);
    return {};
  };
  events.runtime_hooks = [](pid_t) { return system_error(EPROTO, "unexpected hooks"); };
  LAYERFS_ASSIGN(ProgramFailure failure, init.await_ready(events));
  if (failure.status == 0) {
    LAYERFS_ASSIGN(failure, init.await_program());
  }
  if (failure.status != 0) {
    log_line(LogLevel::kError, failure.message);
    return failure.status;
  }
  LAYERFS_TRY(write_pid_file(request.pid_file, init.pid()));
  locked.unlock();
  kill_init.release();
  if (request.detach) return 0;
  Foreground foreground;
  foreground.signal_fd = signal_fd.get();
  foreground.done_fd = init.pidfd();
  foreground.master = std::move(master);
  foreground.forward = [&](int number) {
    if (auto sent = sys::send_signal(init.pidfd(), number); !sent) log_debug("{}", sent.error().message());
  };
  foreground.on_done = [] { return Result<bool>(true); };
  LAYERFS_TRY(run_foreground(foreground));
  LAYERFS_ASSIGN(int wait_status, sys::wait_child(init.pid()));
  return sys::exit_code(wait_status);
}

}  // namespace layerfs::container
