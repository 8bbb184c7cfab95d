// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/init_process.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fs/base/sys_file.h"
#include "runtime/container/final_stage/final_stage.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/container/root_walk.h"
#include "runtime/container/run_steps.h"
#include "runtime/sys/clone.h"
#include "runtime/sys/identity.h"
#include "runtime/sys/scheduling.h"
#include "runtime/sys/terminal.h"

namespace layerfs::container {

namespace {

/// A StageHeader and what it points at, in one string.
class StageBuilder {
 public:
  StageBuilder() { bytes_.resize(sizeof(stage::StageHeader)); }

  std::uint32_t add_string(const std::string& text) { return add(text.c_str(), text.size() + 1, 1); }
  std::uint32_t add_strings(const std::vector<std::string>& list) {
    std::vector<std::uint32_t> offsets;
    offsets.reserve(list.size());
    for (const auto& text : list) offsets.push_back(add_string(text));
    return add(offsets.data(), offsets.size() * sizeof(std::uint32_t), alignof(std::uint32_t));
  }
  std::uint32_t add(const void* data, std::size_t size, std::size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_ += '\0';
    auto offset = static_cast<std::uint32_t>(bytes_.size());
    if (size > 0) bytes_.append(static_cast<const char*>(data), size);
    return offset;
  }
  std::string finish(stage::StageHeader header) {
    header.magic = stage::kMagic;
    header.size = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &header, sizeof header);
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

/// A terminal of the container's own devpts (never of the host's), bound to /dev/console.
Result<void> make_console(const plan::ConsoleStep& step, StepContext& context, InitRequest& request) {
  LAYERFS_ASSIGN(Fd master,
                 context.calls.open_in_root(context.root.get(), "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0));
  LAYERFS_ASSIGN(sys::FsFacts facts, context.calls.fs_facts(master.get()));
  if (facts.type != DEVPTS_SUPER_MAGIC) return unsupported_error("", "/dev/pts/ptmx", "is not on devpts");
  LAYERFS_ASSIGN(context.terminal, sys::open_terminal_peer(master.get()));
  if (step.height != 0 || step.width != 0)
    LAYERFS_TRY(sys::set_window_size(context.terminal.get(), {step.height, step.width}));
  // The user opens its own terminal again by name; a user namespace may lack the right to give it away.
  const plan::ProcessPlan& process = context.process;
  if (process.uid != 0 && ::fchown(context.terminal.get(), process.uid, static_cast<gid_t>(-1)) != 0 &&
      errno != EPERM)
    return system_error(errno, "chown terminal");
  if (step.bind_console) {
    LAYERFS_ASSIGN(Fd target,
                   open_or_make(context.calls, context.root.get(), "/dev/console", TargetKind::kFile));
    LAYERFS_TRY(context.calls.bind_on(target.get(), context.terminal.get(), {}));
  }
  if (!request.console_socket) return context.sync.send(MessageKind::kConsole, 0, {}, master.get());
  SyncChannel socket(std::move(request.console_socket));
  return socket.send_descriptor(master.get(), "/dev/pts/ptmx");
}

class Init {
 public:
  Init(InitRequest& request, SyncChannel sync) : request_(request), sync_(std::move(sync)) {}

  Result<void> run() {
    sys::reset_signals();
    if (request_.die_with_parent) LAYERFS_TRY(sys::set_parent_death_signal(SIGKILL));
    LAYERFS_ASSIGN(Message go, sync_.receive());
    if (go.kind != MessageKind::kGo)
      ::_exit(kNotStarted);  // the creator is gone or has reported its own error
    pid_outside_ = go.value;
    // What is made in the container has the mode that is meant, whatever the caller's umask. The program gets
    // its own from the final stage.
    ::umask(0022);
    if (request_.own_session) LAYERFS_TRY(calls_.new_session());
    // Else the container could read keys of the caller's session (keyrings(7)).
    if (!request_.keyring.empty()) LAYERFS_TRY(join_keyring());
    LAYERFS_TRY(write_oom_score());
    LAYERFS_TRY(make_time_namespace());
    LAYERFS_TRY(sys::set_undumpable());
    LAYERFS_TRY(become_root());
    LAYERFS_TRY(run_plan());
    LAYERFS_TRY(enter_directory());
    auto program = find_program(process().args.front(), process().env);
    if (!program) {
      // Not an error of the runtime: the creator tells 126 and 127 apart by the errno.
      LAYERFS_TRY(sync_.send(MessageKind::kExecFailed, program.error().code, program.error().message()));
      ::_exit(kNotStarted);
    }
    return become_stage(*program);
  }

  void report(const Error& error) {
    [[maybe_unused]] auto sent = sync_.send(MessageKind::kFailed, error.code, error.message());
  }

  static constexpr int kNotStarted = 125;

 private:
  plan::ProcessPlan& process() { return request_.plan.process; }

  Result<void> join_keyring() {
    const std::string& label = process().selinux_label;
    if (!label.empty()) {
      // The program could not use one of another label. The exec of the final stage takes this back.
      LAYERFS_ASSIGN(Fd file, calls_.open_path("/proc/thread-self/attr/keycreate", O_WRONLY));
      if (auto written = calls_.write_all(file.get(), label); !written)
        return with_context(written.error(), "field", "process.selinuxLabel");
    }
    return sys::join_new_keyring(request_.keyring);
  }

  Result<void> write_oom_score() {
    if (!process().oom_score_adj) return {};
    // Before set_undumpable(): then /proc/self belongs to the host's root.
    LAYERFS_ASSIGN(Fd fd, calls_.open_path("/proc/self/oom_score_adj", O_WRONLY));
    if (auto written = calls_.write_all(fd.get(), std::to_string(*process().oom_score_adj)); !written)
      return with_context(written.error(), "set", "process.oomScoreAdj");
    return {};
  }

  /// A time namespace takes its offsets only while nobody is in it, which clone3(2) would not leave room for:
  /// unshare(2) makes one for children, and once that is done we join it ourselves (time_namespaces(7)). By
  /// now we are in the user namespace that is to own it, with every capability there, and not undumpable yet:
  /// then the file would be the host's root's.
  Result<void> make_time_namespace() {
    const std::string& offsets = request_.plan.time_offsets;
    if (offsets.empty()) return {};
    auto made = [&]() -> Result<void> {
      LAYERFS_TRY(calls_.unshare(CLONE_NEWTIME));
      LAYERFS_ASSIGN(Fd file, calls_.open_path("/proc/self/timens_offsets", O_WRONLY));
      LAYERFS_TRY(calls_.write_all(file.get(), offsets));
      LAYERFS_ASSIGN(Fd fresh, calls_.open_path("/proc/self/ns/time_for_children", O_RDONLY));
      return sys::join_namespace(fresh.get(), CLONE_NEWTIME);
    }();
    if (!made) return with_context(made.error(), "field", "linux.timeOffsets");
    return {};
  }

  Result<void> become_root() {
    bool new_user = request_.plan.ids.writer != plan::MapWriter::kNone;
    bool joined_user =
        !request_.plan.joins.empty() && request_.plan.joins.front().kind == spec::NamespaceKind::kUser;
    if (!new_user && !joined_user) return {};
    LAYERFS_TRY(sys::become_namespace_root(new_user && process().set_groups));
    // A change of ids clears the signal (prctl(2)).
    if (request_.die_with_parent) LAYERFS_TRY(sys::set_parent_death_signal(SIGKILL));
    return {};
  }

  Result<void> run_plan() {
    StepContext context{
        calls_, sync_, process(), request_.plan.ids, request_.fuse_options, {}, {}, {}, {}, {}, {}, {}, {}};
    for (auto& mount : request_.prepared_mounts) context.prepared_mounts.push_back(std::move(mount));
    context.make_console = [&](const plan::ConsoleStep& step, StepContext& at) {
      return make_console(step, at, request_);
    };
    context.run_container_hooks = [&] {
      return run_hooks(request_.plan.hooks.create_container, "createContainer", request_.hook_state,
                       request_.hook_files);
    };
    // What joined a mount namespace is in that container's root already.
    if (!request_.shared_root.empty()) {
      LAYERFS_ASSIGN(Fd root, calls_.open_path(request_.shared_root, O_PATH | O_DIRECTORY));
      LAYERFS_TRY(calls_.change_dir_fd(root.get()));
      LAYERFS_TRY(calls_.chroot_to_current());
    }
    if (request_.joins_mounts) {
      LAYERFS_ASSIGN(context.root, calls_.open_path("/", O_PATH | O_DIRECTORY));
    } else {
      LAYERFS_ASSIGN(context.host_proc, calls_.open_path("/proc", O_PATH | O_DIRECTORY));
    }
    LAYERFS_TRY(run_steps(request_.plan.steps, context));
    terminal_ = std::move(context.terminal);
    return {};
  }

  Result<void> enter_directory() {
    auto changed = calls_.change_dir(process().cwd);
    if (!changed && changed.error().code == EACCES) {
      late_directory_ = true;
      return {};
    }
    if (!changed) return with_context(changed.error(), "working directory");
    // A directory outside the root shows itself by its name (CVE-2024-21626).
    std::array<char, 4096> path{};
    if (::getcwd(path.data(), path.size()) == nullptr || path[0] != '/')
      return invalid_error("working directory", process().cwd, "is outside the container's root");
    return {};
  }

  Result<void> take_terminal() {
    if (!terminal_) return {};
    for (int fd = 0; fd < 3; ++fd) LAYERFS_TRY(sys::move_fd(terminal_.get(), fd));
    if (!process().use_init) LAYERFS_TRY(sys::set_controlling_terminal(0));
    return {};
  }

  Result<void> wait_and_run_start_hooks() {
    const auto& hooks = request_.plan.hooks.start_container;
    if (hooks.empty()) return {};
    if (request_.start_fifo) {
      LAYERFS_TRY(sync_.send(MessageKind::kReady));
      std::byte byte{};
      LAYERFS_ASSIGN(std::size_t got, read_full(request_.start_fifo.get(), std::span(&byte, 1)));
      if (got != 1) return system_error(ECANCELED, "wait for start");
      request_.start_fifo.reset();
      ready_sent_ = true;
    }
    return run_hooks(hooks, "startContainer", request_.hook_state, request_.hook_files);
  }

  /// Kept over exec. Late, so that the set-up runs as the creator does; before ids and capabilities go, since
  /// some of it needs CAP_SYS_NICE.
  Result<void> set_scheduling() {
    const plan::ProcessPlan& plan = process();
    auto named = [](Result<void> done, const char* field) -> Result<void> {
      if (!done) return with_context(done.error(), "field", field);
      return done;
    };
    if (plan.memory_policy)
      LAYERFS_TRY(named(sys::set_memory_policy(plan.memory_policy->mode, plan.memory_policy->nodes),
                        "linux.memoryPolicy"));
    if (plan.io_priority)
      LAYERFS_TRY(named(sys::set_io_priority(plan.io_priority->io_class, plan.io_priority->priority),
                        "process.ioPriority"));
    if (plan.scheduler) {
      const spec::Scheduler& from = *plan.scheduler;
      LAYERFS_TRY(named(sys::set_scheduler({from.policy, from.flags, from.nice, from.priority, from.runtime,
                                            from.deadline, from.period}),
                        "process.scheduler"));
    }
    if (plan.personality) LAYERFS_TRY(named(sys::set_personality(*plan.personality), "linux.personality"));
    return {};
  }

  std::string make_stage_bytes(const std::string& program) {
    StageBuilder builder;
    stage::StageHeader header{};
    const plan::ProcessPlan& plan = process();
    if (plan.use_init) header.flags |= stage::kStayAsInit;
    if (plan.set_groups) header.flags |= stage::kSetGroups;
    if (plan.no_new_privileges) header.flags |= stage::kNoNewPrivileges;
    if (plan.terminal) header.flags |= stage::kTerminal;
    if (late_directory_) header.flags |= stage::kChangeDirectory;
    if (request_.die_with_parent) header.flags |= stage::kDieWithParent;
    if (!ready_sent_) header.flags |= stage::kReportReady;
    header.sync_fd = sync_.fd();
    header.start_fd = request_.start_fifo ? request_.start_fifo.get() : -1;
    header.keep_fds = request_.keep_fds;
    header.uid = plan.uid;
    header.gid = plan.gid;
    header.umask = plan.umask;
    header.group_count = static_cast<std::uint32_t>(plan.additional_gids.size());
    header.groups =
        builder.add(plan.additional_gids.data(), plan.additional_gids.size() * sizeof(std::uint32_t), 4);
    header.last_capability = plan.last_capability;
    if (plan.capabilities) {
      header.flags |= stage::kSetCapabilities;
      header.bounding = plan.capabilities->bounding;
      header.effective = plan.capabilities->effective;
      header.permitted = plan.capabilities->permitted;
      header.inheritable = plan.capabilities->inheritable;
      header.ambient = plan.capabilities->ambient;
    }
    const auto& filter = request_.seccomp.instructions;
    header.seccomp_count = static_cast<std::uint32_t>(filter.size());
    header.seccomp = builder.add(filter.data(), filter.size() * sizeof(sock_filter), alignof(sock_filter));
    header.seccomp_flags = request_.seccomp.flags;
    header.listener_socket = -1;
    if (request_.listener_socket) {
      std::string state = request_.listener_state(pid_outside_);
      header.listener_socket = request_.listener_socket.get();
      header.listener_state = builder.add_string(state);
      header.listener_state_size = static_cast<std::uint32_t>(state.size());
    }
    header.path = builder.add_string(program);
    header.cwd = builder.add_string(plan.cwd);
    header.argument_count = static_cast<std::uint32_t>(plan.args.size());
    header.arguments = builder.add_strings(plan.args);
    header.environment_count = static_cast<std::uint32_t>(plan.env.size());
    header.environment = builder.add_strings(plan.env);
    header.proc_fd = request_.proc ? request_.proc.get() : -1;
    if (!plan.apparmor_change.empty()) header.apparmor = builder.add_string(plan.apparmor_change);
    if (!plan.selinux_label.empty()) header.selinux = builder.add_string(plan.selinux_label);
    return builder.finish(header);
  }

  /// So that the program can open its /dev/stdout again (proc(5), /proc/PID/fd): the caller's pipes and files
  /// become its user's, as by crun and runc. Devices are shared with others and stay.
  Result<void> give_streams() {
    const plan::ProcessPlan& plan = process();
    if (plan.uid == 0 && plan.gid == 0) return {};
    for (int fd = 0; fd < 3; ++fd) {
      auto st = calls_.stat_fd(fd);
      if (!st || S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) continue;
      if (st->st_uid == plan.uid && st->st_gid == plan.gid) continue;
      // EPERM, EINVAL: another's file, or ids that mean nothing here; EROFS. It stays as it is.
      if (::fchown(fd, plan.uid, plan.gid) != 0 && errno != EPERM && errno != EINVAL && errno != EROFS)
        return system_error(errno, "chown standard stream", std::to_string(fd));
    }
    return {};
  }

  void name_listeners() {
    if (request_.listen_fds == 0) return;
    auto& env = process().env;
    std::erase_if(env, [](const std::string& item) {
      return item.starts_with("LISTEN_FDS=") || item.starts_with("LISTEN_PID=");
    });
    env.push_back("LISTEN_FDS=" + std::to_string(request_.listen_fds));
    env.push_back("LISTEN_PID=" + std::to_string(::getpid()));
  }

  Result<void> become_stage(const std::string& program) {
    LAYERFS_TRY(take_terminal());
    LAYERFS_TRY(give_streams());
    name_listeners();
    LAYERFS_TRY(wait_and_run_start_hooks());
    LAYERFS_ASSIGN(Fd stage, make_sealed_file("layerfs-stage", make_stage_bytes(program)));
    // Everything that is not the program's goes at the exec, whatever was inherited from whom.
    LAYERFS_TRY(sys::close_from(static_cast<int>(request_.keep_fds), sys::CloseMode::kOnExec));
    LAYERFS_TRY(sys::keep_on_exec(stage.get()));
    LAYERFS_TRY(sys::keep_on_exec(sync_.fd()));
    if (request_.start_fifo) LAYERFS_TRY(sys::keep_on_exec(request_.start_fifo.get()));
    if (request_.listener_socket) LAYERFS_TRY(sys::keep_on_exec(request_.listener_socket.get()));
    if (request_.proc) LAYERFS_TRY(sys::keep_on_exec(request_.proc.get()));
    // Last: a limit on files or memory may leave no room for the above.
    for (const auto& limit : process().rlimits)
      if (auto set = calls_.set_rlimit(limit.resource, limit.soft, limit.hard); !set)
        return with_context(set.error(), "process.rlimits", limit.name);
    LAYERFS_TRY(set_scheduling());
    return sys::execute_fd(request_.stage_program.get(), "layerfs-init", std::to_string(stage.get()).c_str());
  }

  InitRequest& request_;
  SyncChannel sync_;
  sys::LinuxSyscalls calls_;
  Fd terminal_;
  pid_t pid_outside_ = 0;  // as the creator sees it
  bool late_directory_ = false;
  bool ready_sent_ = false;
};

}  // namespace

void run_init(InitRequest& request, SyncChannel sync) {
  Init init(request, std::move(sync));
  auto ended = init.run();
  init.report(ended ? Error{} : ended.error());
  ::_exit(Init::kNotStarted);
}

Result<std::string> find_program(const std::string& name, const std::vector<std::string>& env) {
  if (name.find('/') != std::string::npos) {
    LAYERFS_TRY(sys::check_executable(name.c_str()));
    return name;
  }
  std::string path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (const auto& item : env)
    if (item.starts_with("PATH=")) path = item.substr(5);
  int code = ENOENT;
  std::size_t begin = 0;
  while (begin <= path.size() && !name.empty()) {
    std::size_t end = std::min(path.find(':', begin), path.size());
    // An empty element is the working directory (environ(7)).
    std::string directory = end == begin ? "." : path.substr(begin, end - begin);
    begin = end + 1;
    std::string candidate = join_path(directory, name);
    auto checked = sys::check_executable(candidate.c_str());
    if (checked) return candidate;
    if (checked.error().code == EACCES) code = EACCES;
  }
  if (code == ENOENT)
    return std::unexpected(
        Error{ErrorKind::kSystem, ENOENT, "'" + name + "'", "executable file not found in $PATH"});
  return system_error(code, "", name);
}

}  // namespace layerfs::container
