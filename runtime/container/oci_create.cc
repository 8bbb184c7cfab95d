// SPDX-License-Identifier: Apache-2.0
// OciRuntime: create, start and run.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/container/foreground.h"
#include "runtime/container/hooks.h"
#include "runtime/container/host.h"
#include "runtime/container/joined_namespaces.h"
#include "runtime/container/notify_socket.h"
#include "runtime/container/oci_runtime.h"
#include "runtime/container/oci_support.h"
#include "runtime/container/out_of_memory.h"
#include "runtime/container/prepared_mounts.h"
#include "runtime/container/resctrl.h"
#include "runtime/container/sealed_self.h"
#include "runtime/container/systemd_scope.h"
#include "runtime/spec/parse_spec.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"
#include "runtime/sys/mount_top.h"

namespace layerfs::container {

namespace {

Result<Fd> connect_socket(const std::string& path, std::string_view what) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return system_error(errno, "create socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return system_error(ENAMETOOLONG, what, path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return system_error(errno, what, path);
  return fd;
}

Result<void> run_poststart_hooks(const spec::Hooks& hooks, const ContainerState& state) {
  LAYERFS_ASSIGN(HookFiles files, open_hook_files(hooks));
  return run_hooks(hooks.poststart, "poststart", state_json(state, Status::kRunning), files);
}

Result<void> check_bundle(const spec::ContainerSpec& spec, const std::string& bundle) {
  std::string rootfs = spec.root.path.starts_with('/') ? spec.root.path : bundle + '/' + spec.root.path;
  struct stat st;
  if (::stat(rootfs.c_str(), &st) != 0) return system_error(errno, "field 'root.path'", rootfs);
  if (!S_ISDIR(st.st_mode)) return system_error(ENOTDIR, "field 'root.path'", rootfs);
  return {};
}

}  // namespace

Result<void> keep_descriptors(unsigned preserve_fds, InitRequest& request) {
  constexpr unsigned kMost = 65536;
  unsigned listen_fds = 0;
  if (const char* text = std::getenv("LISTEN_FDS"); text != nullptr) {
    std::string_view digits(text);
    auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), listen_fds);
    if (code != std::errc{} || end != digits.data() + digits.size() || listen_fds > kMost)
      return invalid_error("environment", "LISTEN_FDS",
                           "is no number of descriptors: '" + std::string(text) + "'");
  }
  if (preserve_fds > kMost)
    return invalid_error("--preserve-fds", std::to_string(preserve_fds), "is above " + std::to_string(kMost));
  request.listen_fds = listen_fds;
  request.keep_fds = 3 + listen_fds + preserve_fds;
  int last = static_cast<int>(request.keep_fds) - 1;
  // One that is not open is the caller's business; but ours must not come to lie there and be taken for it.
  for (int fd = 3; fd <= last; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    LAYERFS_ASSIGN(Fd placeholder, open_file("/dev/null", O_PATH));
    if (placeholder.get() > last) break;  // the lowest free one is above: none is missing any more
    request.held.push_back(std::move(placeholder));
  }
  return {};
}

Result<Fd> connect_console_socket(const std::string& path) {
  return connect_socket(path, "connect to console socket");
}

Result<void> connect_listener(const spec::Seccomp& seccomp, const ContainerState& state, Status status,
                              InitRequest& request) {
  if (!seccomp.notifies()) return {};
  LAYERFS_ASSIGN(request.listener_socket,
                 connect_socket(seccomp.listener_path, "field 'linux.seccomp.listenerPath': connect to"));
  request.listener_state = [state, status, metadata = seccomp.listener_metadata](pid_t pid) {
    ContainerState now = state;
    if (now.pid == 0) now.pid = pid;  // it is the init itself
    return process_state_json(now, status, pid, metadata);
  };
  return {};
}

Result<void> write_pid_file(const std::string& path, pid_t pid) {
  if (path.empty()) return {};
  std::string temporary = path + ".new";
  std::string text = std::to_string(pid);
  {
    LAYERFS_ASSIGN(Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    LAYERFS_TRY(write_full(fd.get(), std::as_bytes(std::span(text))));
  }
  return rename_file(temporary, path);
}

Result<OciRuntime::Created> OciRuntime::create_locked(const CreateRequest& request) {
  LAYERFS_ASSIGN(std::string bundle, real_path(request.bundle));
  std::string config_path = request.config.empty() ? bundle + "/config.json" : request.config;
  // What can be read only once is read by the copy that this process may have to become further down.
  LAYERFS_ASSIGN(auto config_file, find_stat_at(AT_FDCWD, config_path, 0));
  if (config_file && !S_ISREG(config_file->st_mode)) LAYERFS_TRY(become_sealed());
  LAYERFS_ASSIGN(std::string config, read_file(config_path));
  auto parsed = spec::parse_spec(config);
  if (!parsed) return with_context(parsed.error(), "", config_path);
  LAYERFS_TRY(check_bundle(*parsed, bundle));
  if (auto dropped = drop_callers_namespaces(*parsed); !dropped)
    return with_context(dropped.error(), "", config_path);
  LAYERFS_ASSIGN(std::string notify_directory, absolute_path(store_.notify_directory(request.id)));
  bool notifies = add_notify_socket(*parsed, notify_directory);
  bool wants_terminal = parsed->process.terminal;
  if (!wants_terminal && !request.console_socket.empty())
    return invalid_error("--console-socket", request.console_socket, "needs process.terminal");

  LAYERFS_ASSIGN(plan::HostFacts host, read_host_facts());
  plan::PlanOptions options;
  options.bundle = bundle;
  options.no_pivot = request.no_pivot;
  options.cgroup_mode = request.cgroup_mode;
  options.cgroup_manager = request.cgroup_manager;
  // Without a path, and without privilege to make one, a group is made only for limits that were asked for.
  options.container_id = request.id;
  options.cgroup_name = "layerfs-" + request.id;
  options.cgroup_extent =
      host.privileged && host.host_root && parsed->find_namespace(spec::NamespaceKind::kUser) == nullptr
          ? plan::CgroupExtent::kAll
          : plan::CgroupExtent::kNeeded;
  InitRequest init_request;
  LAYERFS_ASSIGN(init_request.plan, plan::plan_container(*parsed, host, options));
  if (shows_itself_in(init_request.plan.joins)) LAYERFS_TRY(become_sealed());
  if (parsed->seccomp) {
    LAYERFS_ASSIGN(init_request.seccomp, make_seccomp_program(*parsed->seccomp));
  }
  LAYERFS_ASSIGN(init_request.stage_program, make_final_stage());
  LAYERFS_TRY(keep_descriptors(request.preserve_fds, init_request));
  if (request.new_keyring) init_request.keyring = "layerfs-" + request.id;
  if (!request.console_socket.empty()) {
    LAYERFS_ASSIGN(init_request.console_socket, connect_console_socket(request.console_socket));
  } else {
    take_callers_size(init_request.plan.steps);
  }

  ContainerState state;
  // A container that fails once its hooks may have run gets those of its end too, when all else is undone
  // (runtime-spec, runtime.md, "Lifecycle", steps 3 to 5, 12 and 13).
  bool hooks_begun = false;
  ScopeExit end_hooks([&] {
    if (hooks_begun) run_poststop_hooks(parsed->hooks, state_json(state, Status::kStopped));
  });
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.create(request.id));
  ScopeExit remove_directory([&] {
    if (auto removed = store_.remove(request.id); !removed) log_warning("{}", removed.error().message());
  });
  state.id = request.id;
  state.oci_version = parsed->oci_version;
  state.bundle = bundle;
  state.rootfs = parsed->root.path.starts_with('/') ? parsed->root.path : bundle + '/' + parsed->root.path;
  state.created_at = std::time(nullptr);
  state.annotations = parsed->annotations;
  state.owner_uid = host.uid;
  LAYERFS_TRY(write_file_plain(locked.directory + "/config.json", config));
  if (notifies) {
    LAYERFS_TRY(make_dir(notify_directory, 0755));
    LAYERFS_TRY(set_mode(notify_directory, 0755));  // the container's users reach the socket in it
  }
  const auto& scope = init_request.plan.scope;
  sys::CgroupDirs cgroup;
  if (!scope) {
    LAYERFS_ASSIGN(cgroup, make_cgroup(init_request.plan.cgroup, request.cgroup_mode));
  }
  ScopeExit remove_cgroup([&] {
    auto removed = state.scope.empty() ? cgroup.remove() : stop_scope(host, state.scope, cgroup);
    if (!removed) log_warning("{}", removed.error().message());
  });
  const auto& resctrl = init_request.plan.resctrl;
  if (resctrl) {
    LAYERFS_ASSIGN(state.resctrl, make_resctrl(*resctrl));
  }
  ScopeExit remove_groups_of_resctrl([&] {
    if (auto removed = remove_resctrl(state.resctrl); !removed) log_warning("{}", removed.error().message());
  });
  auto join = [&](pid_t pid) -> Result<void> {
    if (resctrl) LAYERFS_TRY(join_resctrl(*resctrl, pid));
    if (!scope) return cgroup.add(pid);
    LAYERFS_ASSIGN(cgroup, start_scope(host, *scope, init_request.plan.cgroup, pid));
    state.scope = scope->unit;
    state.cgroups = cgroup.paths();
    return {};
  };
  state.cgroups = cgroup.paths();
  if (parsed->find_namespace(spec::NamespaceKind::kMount) == nullptr) {
    LAYERFS_ASSIGN(state.callers_root, real_path(state.rootfs));
    LAYERFS_ASSIGN(state.callers_mount, sys::mount_id(state.callers_root));
  }
  ScopeExit unmount_root([&] {
    if (auto unmounted = unmount_shared_root(state); !unmounted)
      log_warning("{}", unmounted.error().message());
  });
  LAYERFS_TRY(store_.write(state));
  std::string fifo = store_.start_fifo(request.id);
  if (::mkfifo(fifo.c_str(), 0600) != 0) return system_error(errno, "create", fifo);
  // For reading and writing: then reading waits until start() writes, whoever opens and closes it before.
  LAYERFS_ASSIGN(init_request.start_fifo, open_file(fifo, O_RDWR));

  init_request.hook_state = state_json(state, Status::kCreating);
  LAYERFS_ASSIGN(init_request.hook_files, open_hook_files(parsed->hooks));
  if (parsed->seccomp)
    LAYERFS_TRY(connect_listener(*parsed->seccomp, state, Status::kCreating, init_request));
  // Known before it goes on: an init whose creator dies ends by itself before that, and by delete after it.
  auto remember = [&](pid_t pid) -> Result<void> {
    LAYERFS_ASSIGN(auto start_time, sys::find_start_time(pid));
    state.pid = pid;
    state.start_time = start_time.value_or(0);
    return store_.write(state);
  };
  init_request.creators_fds = {locked.lock.get()};
  LAYERFS_ASSIGN(LaunchedInit init, launch(init_request, join, remember));
  ScopeExit kill_init([&] { init.destroy(); });
  hooks_begun = true;
  Fd master;
  LaunchEvents events;
  events.fuse_device = [](Fd, Fd) { return system_error(EPROTO, "unexpected FUSE device"); };
  events.console = [&](Fd fd) -> Result<void> {
    master = std::move(fd);
    return {};
  };
  events.runtime_hooks = [&](pid_t) -> Result<void> {
    std::string json = state_json(state, Status::kCreating);
    LAYERFS_TRY(run_hooks(parsed->hooks.prestart, "prestart", json, init_request.hook_files));
    return run_hooks(parsed->hooks.create_runtime, "createRuntime", json, init_request.hook_files);
  };
  events.source_mount = [&](std::size_t step) { return copy_source(init_request.plan.steps, step); };
  LAYERFS_ASSIGN(ProgramFailure failure, init.await_ready(events));
  if (failure.status != 0)
    return std::unexpected(
        Error{ErrorKind::kSystem, failure.status == 127 ? ENOENT : EACCES, {}, failure.message});
  state.ready = true;
  LAYERFS_TRY(store_.write(state));
  LAYERFS_TRY(write_pid_file(request.pid_file, state.pid));
  kill_init.release();
  unmount_root.release();
  remove_groups_of_resctrl.release();
  remove_cgroup.release();
  remove_directory.release();
  end_hooks.release();
  return Created{std::move(init), std::move(state), std::move(*parsed), std::move(master)};
}

Result<void> OciRuntime::create(const CreateRequest& request) {
  LAYERFS_ASSIGN(Created created, create_locked(request));
  if (!created.master) return {};
  // Nobody would ever read it.
  created.init.destroy();
  LAYERFS_TRY(remove(request.id, Force::kYes));
  return invalid_error("field", "process.terminal", "needs --console-socket");
}

Result<void> OciRuntime::start_locked(const ContainerState& state, const spec::Hooks& hooks) {
  LAYERFS_ASSIGN(Status status, find_status(store_, state));
  if (status != Status::kCreated)
    return invalid_error("start container", state.id, "is " + std::string(to_text(status)) + ", not created");
  std::string fifo = store_.start_fifo(state.id);
  auto fd = open_file(fifo, O_WRONLY | O_NONBLOCK);
  if (!fd && fd.error().code == ENXIO) {
    [[maybe_unused]] auto gone = unlink_at(AT_FDCWD, fifo, 0);
    return invalid_error("start container", state.id, "was started already");
  }
  if (!fd) return std::unexpected(fd.error());
  LAYERFS_TRY(write_full(fd->get(), std::as_bytes(std::span("1", 1))));
  LAYERFS_TRY(unlink_at(AT_FDCWD, fifo, 0));
  auto ran = run_poststart_hooks(hooks, state);
  if (ran) return {};
  // Then the container is stopped and destroyed (runtime-spec, runtime.md, "Lifecycle", step 9).
  if (auto removed = remove_locked(state.id, state); !removed) log_warning("{}", removed.error().message());
  return ran;
}

Result<spec::ContainerSpec> OciRuntime::stored_spec(const std::string& id) {
  LAYERFS_ASSIGN(std::string config, read_file(store_.directory(id) + "/config.json"));
  return spec::parse_spec(config);
}

Result<void> OciRuntime::start(const std::string& id) {
  LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(id));
  LAYERFS_ASSIGN(ContainerState state, store_.read(id));
  LAYERFS_ASSIGN(spec::ContainerSpec spec, stored_spec(id));
  LAYERFS_ASSIGN(Fd notify, bind_notify_socket(store_.notify_directory(id)));
  LAYERFS_TRY(start_locked(state, spec.hooks));
  if (!notify) return {};
  // It may take its time, and others may want the container meanwhile.
  locked.unlock();
  LAYERFS_ASSIGN(Fd init, open_init(state));
  if (!init) return {};
  return pass_on_ready(notify.get(), state.pid, init.get(), -1);
}

Result<int> OciRuntime::wait_in_foreground(Created& created, int signal_fd) {
  Foreground foreground;
  foreground.signal_fd = signal_fd;
  foreground.done_fd = created.init.pidfd();
  foreground.master = std::move(created.master);
  foreground.forward = [&](int number) {
    if (auto sent = sys::send_signal(created.init.pidfd(), number); !sent)
      log_debug("{}", sent.error().message());
  };
  foreground.on_done = [] { return Result<bool>(true); };
  LAYERFS_TRY(run_foreground(foreground));
  LAYERFS_ASSIGN(int status, sys::wait_child(created.init.pid()));
  return sys::exit_code(status);
}

Result<OciRuntime::End> OciRuntime::run(const CreateRequest& request, Wait wait) {
  Fd signal_fd;
  if (wait != Wait::kDetached) {
    LAYERFS_ASSIGN(signal_fd, make_signal_fd());
  }
  LAYERFS_ASSIGN(Created created, create_locked(request));
  ScopeExit remove_container([&] {
    if (auto removed = remove(request.id, Force::kYes); !removed)
      log_warning("{}", removed.error().message());
  });
  if (wait == Wait::kDetached && created.master)
    return invalid_error("field", "process.terminal", "needs --console-socket");
  Fd notify;
  {
    LAYERFS_ASSIGN(StateStore::Locked locked, store_.lock(request.id));
    LAYERFS_ASSIGN(notify, bind_notify_socket(store_.notify_directory(request.id)));
    LAYERFS_TRY(start_locked(created.state, created.spec.hooks));
  }
  LAYERFS_ASSIGN(ProgramFailure failure, created.init.await_program());
  if (failure.status != 0)
    return std::unexpected(
        Error{ErrorKind::kSystem, failure.status == 127 ? ENOENT : EACCES, {}, failure.message});
  // A signal for the program is not kept waiting (signal_fd is empty where nothing is passed on).
  if (notify)
    LAYERFS_TRY(pass_on_ready(notify.get(), created.state.pid, created.init.pidfd(), signal_fd.get()));
  if (wait == Wait::kDetached) {
    remove_container.release();
    return End{};
  }
  End end;
  LAYERFS_ASSIGN(end.status, wait_in_foreground(created, signal_fd.get()));
  end.message =
      describe_out_of_memory(sys::CgroupDirs(created.state.cgroups).out_of_memory_kills().value_or(0),
                             end.status, created.spec.resources.memory_limit.value_or(0));
  if (wait == Wait::kKeep) remove_container.release();
  return end;
}

}  // namespace layerfs::container
