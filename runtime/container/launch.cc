// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/launch.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "runtime/container/joined_namespaces.h"
#include "runtime/container/prepared_mounts.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"
#include "runtime/sys/net_device.h"
#include "runtime/sys/scheduling.h"

namespace layerfs::container {

namespace {

using plan::MapWriter;

std::string proc_path(pid_t pid, const char* name) { return "/proc/" + std::to_string(pid) + '/' + name; }

Result<void> write_proc(pid_t pid, const char* name, const std::string& text) {
  LAYERFS_ASSIGN(Fd fd, open_file(proc_path(pid, name), O_WRONLY));
  if (auto written = write_full(fd.get(), std::as_bytes(std::span(text))); !written)
    return with_context(written.error(), "write", name);
  return {};
}

std::vector<std::string> map_command(const char* program, pid_t pid,
                                     const std::vector<spec::IdMapping>& map) {
  std::vector<std::string> args{program, std::to_string(pid)};
  auto rest = plan::helper_arguments(map);
  args.insert(args.end(), rest.begin(), rest.end());
  return args;
}

Result<void> check_helper(const char* program, pid_t pid) {
  LAYERFS_ASSIGN(int status, sys::wait_child(pid));
  if (status != 0) return unsupported_error("set id map", program, sys::describe_wait_status(status));
  return {};
}

Result<void> write_maps(const plan::IdMapPlan& ids, pid_t pid) {
  if (ids.writer == MapWriter::kNone) return {};
  if (ids.writer == MapWriter::kDirect) {
    if (ids.deny_setgroups) LAYERFS_TRY(write_proc(pid, "setgroups", "deny"));
    LAYERFS_TRY(write_proc(pid, "gid_map", plan::format_map(ids.gids)));
    return write_proc(pid, "uid_map", plan::format_map(ids.uids));
  }
  // The two are set-user-id programs and most of a rootless start: they run side by side.
  LAYERFS_ASSIGN(pid_t uids,
                 sys::spawn({"newuidmap", map_command("newuidmap", pid, ids.uids), std::nullopt}));
  auto gids = sys::spawn({"newgidmap", map_command("newgidmap", pid, ids.gids), std::nullopt});
  auto first = check_helper("newuidmap", uids);
  if (!gids) return std::unexpected(gids.error());
  LAYERFS_TRY(check_helper("newgidmap", *gids));
  return first;
}

/// The score is inherited by children. An undumpable process of an ordinary user could not write its own any
/// more.
Result<void> set_oom_score(plan::ProcessPlan& process) {
  if (!process.oom_score_adj) return {};
  LAYERFS_ASSIGN(Fd fd, open_file("/proc/self/oom_score_adj", O_WRONLY));
  std::string text = std::to_string(*process.oom_score_adj);
  if (auto written = write_full(fd.get(), std::as_bytes(std::span(text))); !written)
    return with_context(written.error(), "set", "process.oomScoreAdj");
  process.oom_score_adj.reset();
  return {};
}

/// A time namespace that is to have offsets is the init's to make (init_process.cc).
std::uint64_t birth_flags(const plan::ContainerPlan& plan) {
  return plan.time_offsets.empty() ? plan.clone_flags : plan.clone_flags & ~std::uint64_t{CLONE_NEWTIME};
}

/// Before the container's mounts are there, and before its mount namespace is joined.
Result<void> open_proc(InitRequest& request) {
  const plan::ProcessPlan& process = request.plan.process;
  if (process.apparmor_change.empty() && process.selinux_label.empty()) return {};
  LAYERFS_ASSIGN(request.proc, open_file("/proc", O_PATH | O_DIRECTORY));
  return {};
}

/// With namespaces to join, the init is born of a process that has joined them: those of user and pid count
/// only for children, and the creator must stay where it is.
[[noreturn]] void run_joiner(InitRequest& request, SyncChannel& sync, SyncChannel& creator_end) {
  auto joined = [&]() -> Result<pid_t> {
    // Before a namespace with other processes is entered: what has no maps to be written hides from them at
    // once.
    if (request.plan.ids.writer == MapWriter::kNone) {
      LAYERFS_TRY(set_oom_score(request.plan.process));
      LAYERFS_TRY(sys::set_undumpable());
    }
    std::vector<Fd> fds;
    for (const auto& entry : request.plan.joins) {
      auto fd = open_namespace(entry.path);
      if (!fd) return with_context(fd.error(), "linux.namespaces", spec::to_text(entry.kind));
      fds.push_back(std::move(*fd));
    }
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const auto& entry = request.plan.joins[i];
      if (auto done = sys::join_namespace(fds[i].get(), spec::clone_flag(entry.kind)); !done)
        return with_context(done.error(), "linux.namespaces", spec::to_text(entry.kind));
    }
    return sys::clone_process(birth_flags(request.plan) | CLONE_PARENT);
  }();
  if (joined && *joined == 0) {
    creator_end.close();
    run_init(request, std::move(sync));
  }
  if (joined) [[maybe_unused]]
    auto sent = sync.send(MessageKind::kPid, *joined);
  else [[maybe_unused]]
    auto sent = sync.send(MessageKind::kFailed, joined.error().code, joined.error().message());
  ::_exit(0);
}

/// Into the namespace in which the init was born or that it has joined.
Result<void> move_net_devices(const std::vector<spec::NetDevice>& devices, pid_t pid) {
  if (devices.empty()) return {};
  LAYERFS_ASSIGN(Fd network, open_file(proc_path(pid, "ns/net"), O_RDONLY));
  for (const auto& device : devices)
    if (auto moved = sys::move_net_device(device.host_name, device.name, network.get()); !moved)
      return with_context(moved.error(), "field", "linux.netDevices." + device.host_name);
  return {};
}

/// What a failed clone3 most often means.
std::unexpected<Error> explain_clone(const Error& error, const plan::ContainerPlan& plan) {
  if (error.code == ENOSPC || (error.code == EPERM && plan.ids.writer != MapWriter::kNone)) {
    Error explained = error;
    explained.reason = errno_text(error.code) +
                       " (user namespaces may be turned off: see user.max_user_namespaces and "
                       "kernel.unprivileged_userns_clone in sysctl)";
    return std::unexpected(std::move(explained));
  }
  return std::unexpected(error);
}

/// The final stage has no texts for errnos.
Error reported(const Message& message) {
  if (message.kind == MessageKind::kStageFailed)
    return Error{ErrorKind::kSystem, message.value, message.text, {}};
  return Error{ErrorKind::kSystem, message.value, {}, message.text};
}

int failure_status(int code) { return code == ENOENT ? 127 : 126; }

}  // namespace

Result<LaunchedInit> launch(InitRequest& request, const std::function<Result<void>(pid_t)>& join_cgroup,
                            const std::function<Result<void>(pid_t)>& on_born) {
  for (const auto& warning : request.plan.process.warnings) log_warning("{}", warning);
  for (const auto& warning : request.plan.cgroup.warnings) log_warning("{}", warning);
  LAYERFS_ASSIGN(request.prepared_mounts, prepare_mounts(request.plan.steps));
  LAYERFS_TRY(open_proc(request));
  LAYERFS_ASSIGN(auto ends, SyncChannel::make_pair());
  bool joins = !request.plan.joins.empty();
  auto cloned = sys::clone_process(joins ? 0 : birth_flags(request.plan));
  if (!cloned) return explain_clone(cloned.error(), request.plan);
  pid_t pid = *cloned;
  if (pid == 0) {
    for (int fd : request.creators_fds) Fd close_it(fd);
    if (joins) run_joiner(request, ends.second, ends.first);
    ends.first.close();
    run_init(request, std::move(ends.second));
  }
  ends.second.close();
  request.prepared_mounts.clear();
  request.proc.reset();
  if (joins) {
    auto born = ends.first.receive();
    LAYERFS_TRY(sys::wait_child(pid));
    if (!born) return std::unexpected(born.error());
    if (born->kind == MessageKind::kFailed)
      return std::unexpected(Error{ErrorKind::kSystem, born->value, {}, born->text});
    if (born->kind != MessageKind::kPid) return system_error(ECHILD, "join namespaces");
    pid = born->value;
  }
  auto pidfd = sys::open_pidfd(pid);
  LaunchedInit init(pid, pidfd ? std::move(*pidfd) : Fd(), std::move(ends.first));
  auto prepare = [&]() -> Result<void> {
    if (!pidfd) return std::unexpected(pidfd.error());
    LAYERFS_TRY(write_maps(request.plan.ids, pid));
    if (!request.plan.process.initial_cpus.empty())
      if (auto set = sys::set_affinity(pid, request.plan.process.initial_cpus); !set)
        return with_context(set.error(), "field", "process.execCPUAffinity.initial");
    LAYERFS_TRY(join_cgroup(pid));
    if (!request.plan.process.final_cpus.empty())
      if (auto set = sys::set_affinity(pid, request.plan.process.final_cpus); !set)
        return with_context(set.error(), "field", "process.execCPUAffinity.final");
    LAYERFS_TRY(move_net_devices(request.plan.net_devices, pid));
    if (on_born) LAYERFS_TRY(on_born(pid));
    return init.send_go();
  };
  if (auto prepared = prepare(); !prepared) {
    init.destroy();
    return std::unexpected(prepared.error());
  }
  return init;
}

Result<void> LaunchedInit::send_go() { return sync_.send(MessageKind::kGo, pid_); }

void LaunchedInit::destroy() {
  sync_.close();
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  if (auto reaped = sys::wait_child(pid_); !reaped) log_debug("{}", reaped.error().message());
  pid_ = -1;
}

Result<ProgramFailure> LaunchedInit::fail(Error error) {
  destroy();
  return std::unexpected(std::move(error));
}

Result<void> LaunchedInit::send_source(const LaunchEvents& events, std::size_t step) {
  Fd mount;
  if (events.source_mount) {
    auto made = events.source_mount(step);
    // The init has an error of its own to report, which says more.
    if (made)
      mount = std::move(*made);
    else
      log_debug("{}", made.error().message());
  }
  return sync_.send(MessageKind::kSource, static_cast<std::int32_t>(step), {}, mount.get());
}

Result<ProgramFailure> LaunchedInit::await_ready(const LaunchEvents& events) {
  for (;;) {
    auto message = sync_.receive();
    if (!message) return fail(message.error());
    Result<void> handled;
    switch (message->kind) {
      case MessageKind::kReady: return ProgramFailure{};
      case MessageKind::kProcesses: processes_ = std::move(message->fd); break;
      case MessageKind::kFuseDevice:
        handled = events.fuse_device(std::move(message->fd), std::move(processes_));
        break;
      case MessageKind::kConsole: handled = events.console(std::move(message->fd)); break;
      case MessageKind::kHooks:
        handled = events.runtime_hooks(pid_);
        if (handled) handled = send_go();
        break;
      case MessageKind::kSource:
        handled = send_source(events, static_cast<std::size_t>(message->value));
        break;
      case MessageKind::kExecFailed: return ProgramFailure{failure_status(message->value), message->text};
      case MessageKind::kFailed:
      case MessageKind::kStageFailed: return fail(reported(*message));
      default:
        return fail(Error{ErrorKind::kSystem, ECHILD, {}, "the container's init died while it was set up"});
    }
    if (!handled) return fail(handled.error());
  }
}

Result<ProgramFailure> LaunchedInit::await_program() {
  auto message = sync_.receive();
  sync_.close();
  if (!message) return fail(message.error());
  switch (message->kind) {
    case MessageKind::kClosed: return ProgramFailure{};
    case MessageKind::kExecFailed:
      return ProgramFailure{failure_status(message->value),
                            message->text.empty() ? errno_text(message->value) : message->text};
    case MessageKind::kFailed:
    case MessageKind::kStageFailed: return fail(reported(*message));
    default:
      return fail(Error{ErrorKind::kSystem, EPROTO, {}, "unexpected message from the container's init"});
  }
}

std::vector<sys::CgroupRequest> cgroup_requests(const plan::CgroupPlan& plan) {
  std::vector<sys::CgroupRequest> requests;
  for (const auto& group : plan.groups) {
    sys::CgroupRequest request;
    request.mount_point = group.hierarchy.mount_point;
    request.own_path = group.hierarchy.own_path;
    request.unified = group.hierarchy.unified;
    request.cpuset = !group.hierarchy.unified && std::ranges::find(group.hierarchy.controllers, "cpuset") !=
                                                     group.hierarchy.controllers.end();
    request.controllers = group.controllers;
    request.every_controller = group.every_controller;
    request.device_program = group.device_program;
    for (const auto& write : group.writes)
      request.settings.push_back(
          {write.file, write.value, write.field, write.optional, write.other_file, write.other_value});
    requests.push_back(std::move(request));
  }
  return requests;
}

Result<sys::CgroupDirs> make_cgroup(const plan::CgroupPlan& plan, plan::CgroupMode mode) {
  auto made = sys::CgroupDirs::create(cgroup_requests(plan), plan.path);
  if (made || mode == plan::CgroupMode::kRequired) return made;
  int code = made.error().code;
  if (code != EACCES && code != EPERM && code != EROFS) return made;
  log_warning(
      "limits are not set: {} (this user has no cgroup of its own; --cgroups=required makes this an error)",
      made.error().message());
  return sys::CgroupDirs();
}

}  // namespace layerfs::container
