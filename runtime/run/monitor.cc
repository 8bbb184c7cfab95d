// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/monitor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <optional>
#include <thread>

#include "fs/base/check.h"
#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/mount.h"
#include "fs/mount/server_process.h"
#include "fs/mount/supervisor.h"
#include "fs/store/store.h"
#include "runtime/container/final_stage_image.h"
#include "runtime/container/launch.h"
#include "runtime/container/out_of_memory.h"
#include "runtime/run/exit_file.h"
#include "runtime/run/running_file.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"
#include "runtime/sys/identity.h"

namespace layerfs::run {

namespace {

using container::MessageKind;
using container::SyncChannel;

/// A server of an empty upper takes about half of that.
constexpr std::uint64_t kLeastServerMemory = std::uint64_t{8} << 20;
constexpr int kServerPatience = 30'000;     // ms that the server may take to see that its mount is gone
constexpr int kServerDeathTimeout = 1'000;  // ms that the server's death may be seen after the program's

/// Descriptors 0 to 2 are /dev/null; standard error the container's `log` where it can be opened.
void leave_streams(const std::string& container_dir) {
  if (auto null = open_file("/dev/null", O_RDWR); null)
    for (int fd = 0; fd < 3; ++fd)
      if (auto moved = sys::move_fd(null->get(), fd); !moved) return;
  if (auto file = mount::open_container_log(container_dir, "log"); file) [[maybe_unused]]
    auto moved = sys::move_fd(file->get(), STDERR_FILENO);
}

/// The file system server's process. Never returns.
[[noreturn]] void run_file_server(mount::MountRequest request, SyncChannel channel, Fd link) {
  // It outlives everybody: no descriptor of the client's may stay open in it, no pipe's reader wait for it.
  constexpr int kChannel = 3;
  constexpr int kLink = 4;
  int high_channel = ::fcntl(channel.fd(), F_DUPFD_CLOEXEC, kLink + 1);
  int high_link = ::fcntl(link.get(), F_DUPFD_CLOEXEC, kLink + 1);
  channel.close();
  link.reset();
  if (high_channel < 0 || ::dup3(high_channel, kChannel, O_CLOEXEC) < 0) ::_exit(1);
  if (high_link < 0 || ::dup3(high_link, kLink, O_CLOEXEC) < 0) ::_exit(1);
  if (!sys::close_from(kLink + 1, sys::CloseMode::kClose)) ::_exit(1);
  SyncChannel monitor((Fd(kChannel)));
  // A session is a scheduling group of its own (sched(7), autogroups): the container's processes, however
  // busy, don't take the server's share.
  ::setsid();
  leave_streams(request.upper_dir);
  int status = 0;
  try {
    auto device = monitor.receive();
    if (device && device->kind == MessageKind::kProcesses) {
      request.fuse.processes = std::make_shared<const Fd>(std::move(device->fd));
      device = monitor.receive();
    }
    if (!device || device->kind != MessageKind::kFuseDevice) ::_exit(0);  // the container was never made
    auto served = mount::serve_device(request, {std::move(device->fd), std::move(device->text)}, Fd(kLink));
    status = mount::log_served(served);
    const Error* error = !served ? &served.error() : served->unwritten ? &*served->unwritten : nullptr;
    if (error != nullptr)
      if (auto sent = monitor.send(MessageKind::kFailed, error->code, error->message()); !sent)
        log_debug("{}", sent.error().message());
  } catch (const std::exception& error) {
    status = 1;
    [[maybe_unused]] auto sent = monitor.send(MessageKind::kFailed, EIO, error.what());
  }
  ::_exit(status);
}

/// Until the init has made its root, the death of the server is the death of the container: what it told its
/// keeper is dropped, so that the kernel ends the connection and nobody waits for it.
class StartWatch {
 public:
  StartWatch(int server, int link) : end_(::eventfd(0, EFD_CLOEXEC)) {
    if (end_) thread_ = std::thread([this, server, link] { watch(server, link); });
  }
  ~StartWatch() {
    std::uint64_t one = 1;
    if (!thread_.joinable()) return;
    if (auto told = write_full(end_.get(), std::as_bytes(std::span(&one, 1))); !told)
      log_warning("{}", told.error().message());
    thread_.join();
  }
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;

 private:
  void watch(int server, int link) const {
    std::array<pollfd, 2> waits{{{server, POLLIN, 0}, {end_.get(), POLLIN, 0}}};
    while (::poll(waits.data(), waits.size(), -1) < 0) {
    }
    if (waits[0].revents == 0) return;
    for (auto told = mount::hear_server(link); told && *told; told = mount::hear_server(link)) {
    }
  }

  Fd end_;
  std::thread thread_;
};

struct Outcome {
  int status = 125;
  std::string message;
  bool out_of_memory = false;
};

class Monitor {
 public:
  Monitor(RunRequest& request, SyncChannel client, RunningFile file)
      : request_(request), client_(std::move(client)), file_(std::move(file)) {}

  void run() {
    auto outcome = run_to_the_end();
    if (!outcome) outcome = Outcome{125, outcome.error().message(), false};
    auto cleaned = clean(*outcome);
    if (!unwritten_.empty()) outcome->message += (outcome->message.empty() ? "" : "; ") + unwritten_;
    if (!cleaned) outcome->message += (outcome->message.empty() ? "" : "; ") + cleaned.error().message();
    [[maybe_unused]] auto sent = client_.send(kEnded, outcome->status, outcome->message);
    if (request_.detach && started_ && !outcome->message.empty()) log_error("{}", outcome->message);
  }

 private:
  const std::string& directory() const { return request_.mount.upper_dir; }

  Result<Outcome> run_to_the_end() {
    state_.id = request_.mount.upper_id;
    state_.name = request_.name;
    state_.monitor = ::getpid();
    state_.remove = true;  // until it runs
    state_.started = std::time(nullptr);
    LAYERFS_TRY(file_.update(state_));
    if (!request_.remove) {
      LAYERFS_ASSIGN(exit_, ExitFile::create(directory()));
    }
    request_.mount.fuse.connection = mount::new_connection();
    request_.mount.fuse.outlives_server = true;
    if (request_.memory_limit > 0)
      request_.mount.fuse.most_memory =
          std::max(static_cast<std::uint64_t>(request_.memory_limit) / 2, kLeastServerMemory);
    LAYERFS_TRY(make_cgroups());
    LAYERFS_TRY(start_server());
    LAYERFS_ASSIGN(auto init_request, make_init_request());
    LAYERFS_TRY(set_streams());
    LAYERFS_ASSIGN(auto init, container::launch(init_request, [&](pid_t pid) { return cgroup_.add(pid); }));
    ScopeExit destroy_init([&] { init.destroy(); });
    state_.pid = init.pid();
    LAYERFS_ASSIGN(auto start_time, sys::find_start_time(init.pid()));
    state_.start_time = start_time.value_or(0);
    LAYERFS_TRY(file_.update(state_));
    LAYERFS_ASSIGN(auto failure, await_program(init));
    if (failure.status != 0) {
      init.destroy();
      return judge_failure(failure);
    }
    started_ = true;
    state_.remove = request_.remove;
    if (!state_.remove) LAYERFS_TRY(file_.update(state_));
    // Not before: until the program runs, errors of helpers reach the user.
    leave_streams(directory());
    LAYERFS_TRY(client_.send(kStarted, init.pid(), {}, init.pidfd()));
    if (request_.detach) client_.close();
    LAYERFS_TRY(wait_for_end(init.pidfd()));
    LAYERFS_ASSIGN(int status, sys::wait_child(init.pid()));
    destroy_init.release();
    int code = sys::exit_code(status);
    notice_servers_death(code);
    return judge(code);
  }

  Result<void> make_cgroups() {
    const auto served = plan::plan_served_cgroup(request_.plan.cgroup);
    const plan::CgroupPlan& outer = served ? served->whole : request_.plan.cgroup;
    LAYERFS_ASSIGN(whole_cgroup_, container::make_cgroup(outer, request_.cgroup_mode));
    if (whole_cgroup_.empty()) return {};
    state_.cgroups = whole_cgroup_.paths();
    LAYERFS_TRY(file_.update(state_));
    if (!served) {
      cgroup_ = whole_cgroup_;
      return {};
    }
    open_memory_ = plan::plan_without_memory_limit(served->whole);
    auto below = [&](const plan::CgroupPlan& plan) {
      return whole_cgroup_.create_below(container::cgroup_requests(plan), plan.path);
    };
    LAYERFS_ASSIGN(cgroup_, below(served->container));
    LAYERFS_ASSIGN(server_cgroup_, below(served->files));
    return {};
  }

  /// What the server still has to do for a container that ends needs no leave of the dead.
  void lift_memory_limit() const {
    if (whole_cgroup_.empty()) return;
    if (auto lifted = whole_cgroup_.update(container::cgroup_requests(open_memory_)); !lifted)
      log_warning("{}", lifted.error().message());
  }

  /// Lack of memory in the container's groups is the end of one of its processes, not of their file system:
  /// the server keeps to a bound of its own (FuseOptions::most_memory), so that the kernel always finds
  /// another. The server is to be left alone where that may be asked for (proc(5), oom_score_adj:
  /// CAP_SYS_RESOURCE); else each of the container's processes counts as nine tenths of the limit more, which
  /// the server has not.
  void spare_server(pid_t pid) {
    auto file = open_file(fmt::format("/proc/{}/oom_score_adj", pid), O_WRONLY);
    const std::string least = "-1000";
    auto written = file ? write_full(file->get(), std::as_bytes(std::span(least)))
                        : Result<void>(std::unexpected(file.error()));
    if (written) return;
    log_debug("{}", written.error().message());
    auto& of_container = request_.plan.process.oom_score_adj;
    if (of_container) return;
    constexpr int kMore = 900;
    constexpr int kMost = 1000;
    int own = 0;
    if (auto text = read_file("/proc/self/oom_score_adj", 64); text)
      std::from_chars(text->data(), text->data() + text->size(), own);
    of_container = std::min(own + kMore, kMost);
  }

  Result<void> start_server() {
    LAYERFS_ASSIGN(auto ends, SyncChannel::make_pair());
    LAYERFS_ASSIGN(auto link, mount::make_keeper_link());
    pid_t pid = ::fork();
    if (pid < 0) return system_error(errno, "fork");
    if (pid == 0) {
      client_.close();
      ends.first.close();
      link.first.reset();
      run_file_server(request_.mount, std::move(ends.second), std::move(link.second));
    }
    supervisor_.started(pid, std::move(link.first));
    server_ = std::move(ends.first);
    auto pidfd = sys::open_pidfd(pid);
    // The server waits for its device, so nothing has been read or written yet.
    auto added = pidfd ? server_cgroup_.add(pid) : std::unexpected(pidfd.error());
    if (!added) ::kill(pid, SIGKILL);  // whoever reaps it must not wait for it
    if (pidfd) server_pidfd_ = std::move(*pidfd);
    if (added && !open_memory_.groups.empty()) spare_server(pid);
    return added;
  }

  Result<void> send_device(const fuse::Handover& handover) {
    if (processes_) LAYERFS_TRY(server_.send(MessageKind::kProcesses, 0, {}, processes_.get()));
    return server_.send(MessageKind::kFuseDevice, 0, handover.init, handover.device.get());
  }

  Result<container::InitRequest> make_init_request() {
    container::InitRequest init;
    init.plan = request_.plan;
    init.seccomp = request_.seccomp;
    LAYERFS_ASSIGN(init.stage_program, container::make_final_stage());
    init.die_with_parent = true;
    init.keyring = "layerfs-" + state_.id;
    init.fuse_options = [options = request_.mount.fuse](int device) {
      return fuse::mount_data(device, options);
    };
    return init;
  }

  /// What the init inherits as its streams.
  Result<void> set_streams() {
    bool input = request_.interactive && !request_.detach && !request_.plan.process.terminal;
    if (!input) {
      LAYERFS_ASSIGN(Fd null, open_file("/dev/null", O_RDONLY));
      LAYERFS_TRY(sys::move_fd(null.get(), STDIN_FILENO));
    }
    if (!request_.detach) return {};
    LAYERFS_ASSIGN(output_, mount::open_container_log(directory(), "output"));
    // The init makes it the program's user's, so that /dev/stdout can be opened; who started the container
    // reads it as one of the others. Nobody else gets into the directory.
    if (::fchmod(output_.get(), 0644) != 0) return system_error(errno, "chmod", directory() + "/output");
    for (int fd : {STDOUT_FILENO, STDERR_FILENO}) LAYERFS_TRY(sys::move_fd(output_.get(), fd));
    return {};
  }

  Result<container::ProgramFailure> await_program(container::LaunchedInit& init) {
    container::LaunchEvents events;
    events.fuse_device = [&](Fd device, Fd processes) -> Result<void> {
      processes_ = std::move(processes);
      return send_device({std::move(device), {}});
    };
    events.console = [&](Fd master) -> Result<void> {
      if (request_.detach) {
        master_ = std::move(master);
        return {};
      }
      return client_.send(MessageKind::kConsole, 0, {}, master.get());
    };
    events.runtime_hooks = [](pid_t) -> Result<void> { return {}; };
    {
      StartWatch watch(server_pidfd_.get(), supervisor_.link());
      auto ready = init.await_ready(events);
      if (!ready) return server_error(ready.error());
      if (ready->status != 0) return ready;
    }
    // execve(2) itself reads the program, and is not over before that: a server that dies now has a
    // successor.
    for (;;) {
      std::array<pollfd, 3> fds{{{init.channel(), POLLIN, 0},
                                 {supervisor_.is_running() ? server_pidfd_.get() : -1, POLLIN, 0},
                                 {supervisor_.link(), POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return system_error(errno, "wait for the program");
      }
      if (fds[0].revents != 0) return init.await_program();
      if (fds[2].revents != 0) supervisor_.hear();
      if (fds[1].revents == 0) continue;
      reap_server();
      // Where there is none, the kernel ends the connection, and so the exec.
      if (!replace_server()) log_debug("no other file system server");
    }
  }

  /// Where the server failed, its error is the cause of the init's.
  std::unexpected<Error> server_error(const Error& error) {
    pollfd server{server_.fd(), POLLIN, 0};
    if (::poll(&server, 1, 0) > 0)
      if (auto message = server_.receive(); message && message->kind == MessageKind::kFailed)
        return std::unexpected(Error{ErrorKind::kSystem, message->value, "file system", message->text});
    return std::unexpected(error);
  }

  Result<void> wait_for_end(int init) {
    bool killed = false;
    auto kill_init = [&] {
      lift_memory_limit();  // it may wait for a server that waits for memory
      if (!killed)
        if (auto sent = sys::send_signal(init, SIGKILL); !sent) log_debug("{}", sent.error().message());
      killed = true;
    };
    for (;;) {
      std::array<pollfd, 5> fds{{{init, POLLIN, 0},
                                 {client_.fd(), POLLIN, 0},
                                 {supervisor_.is_running() ? server_pidfd_.get() : -1, POLLIN, 0},
                                 {master_.get(), POLLIN, 0},
                                 {supervisor_.link(), POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return system_error(errno, "wait for the container");
      }
      if (fds[3].revents != 0 || fds[0].revents != 0) drain_terminal();
      if (fds[0].revents != 0) return {};
      if (fds[1].revents != 0) {  // the client sends nothing: it is gone
        client_.close();
        kill_init();
      }
      if (fds[4].revents != 0) supervisor_.hear();
      if (fds[2].revents != 0) {
        reap_server();
        if (!replace_server()) kill_init();
      }
    }
  }

  /// The server ended. With the mount that is as it should be, and the kernel drops an ending init's mounts
  /// before it lets the init be waited for; anything else is the death of the container.
  void reap_server() {
    if (supervisor_.reap() == mount::Supervisor::End::kServedUnwritten) note_unwritten();
  }

  /// The mount ended as it should, but its last changes found no place (a full disk): a matter of what is
  /// kept, not of how the program ended.
  void note_unwritten() {
    if (request_.remove) return;
    auto told = server_.receive();
    unwritten_ = told && told->kind == MessageKind::kFailed ? told->text : "write what was changed last";
  }

  /// False where there is to be none: the mount is gone, or its servers die at once.
  bool replace_server() {
    if (!supervisor_.has_died() || !supervisor_.can_replace()) return false;
    while (supervisor_.may_replace()) {
      log_error("the file system server died; starting another");
      supervisor_.pause();
      auto started = start_server();
      if (started) started = send_device(supervisor_.handover());
      if (started) return true;
      log_error("{}", started.error().message());
      if (supervisor_.is_running()) reap_server();
    }
    supervisor_.give_up();
    return false;
  }

  /// A page of the dead mount may end the program before the server itself can be waited for.
  void notice_servers_death(int code) {
    if (!supervisor_.is_running()) return;
    pollfd server{server_pidfd_.get(), POLLIN, 0};
    if (::poll(&server, 1, code > 128 && !supervisor_.can_replace() ? kServerDeathTimeout : 0) > 0)
      reap_server();
  }

  /// A detached terminal: what the container writes goes to the file, as conmon's log.
  void drain_terminal() {
    if (!master_) return;
    int flags = ::fcntl(master_.get(), F_GETFL);
    ::fcntl(master_.get(), F_SETFL, flags | O_NONBLOCK);
    std::array<std::byte, 65536> buffer;
    for (;;) {
      ssize_t got = ::read(master_.get(), buffer.data(), buffer.size());
      if (got > 0) {
        auto written = write_full(output_.get(), std::span(buffer).first(static_cast<std::size_t>(got)));
        if (!written) log_warning("{}", written.error().message());
        continue;
      }
      if (got == 0 || (errno != EAGAIN && errno != EINTR)) master_.reset();
      return;
    }
  }

  /// Of a program that could not be executed, after its init: the mount went with it, and so the server ends
  /// too. How it ends says whether the failure was the program's or came of a dead server.
  Outcome judge_failure(const container::ProgramFailure& failure) {
    pollfd server{server_pidfd_.get(), POLLIN, 0};
    if (supervisor_.is_running() && ::poll(&server, 1, kServerDeathTimeout) > 0) reap_server();
    if (supervisor_.has_died()) return Outcome{125, "the file system server died", false};
    return Outcome{failure.status, failure.message, false};
  }

  Outcome judge(int status) {
    Outcome outcome{status, {}, false};
    // Whatever the program made of a dead server: a page, a library or a command that was not there any more.
    if (supervisor_.has_died()) outcome.status = 128 + SIGKILL;
    const std::uint64_t kills =
        cgroup_.out_of_memory_kills().value_or(0) + server_cgroup_.out_of_memory_kills().value_or(0);
    if (supervisor_.has_died() && kills == 0) {
      outcome.message =
          "the file system server died; the container was killed (see '" + directory() + "/log')";
      return outcome;
    }
    outcome.message = container::describe_out_of_memory(kills, outcome.status, request_.memory_limit);
    outcome.out_of_memory = !outcome.message.empty();
    return outcome;
  }

  /// The mount went with the init; the server syncs and exits by itself.
  void wait_for_server() {
    if (!supervisor_.is_running()) return server_.close();
    // One that waits for its device, which will not come, sees this; what it has said can still be read.
    ::shutdown(server_.fd(), SHUT_WR);
    pollfd server{server_pidfd_.get(), POLLIN, 0};
    // Something else may hold the mount namespace (a debugger that joined it): then the server is told, and
    // told again.
    if (::poll(&server, 1, kServerPatience) == 0)
      for (int signal : {SIGTERM, SIGTERM, SIGKILL}) {
        ::kill(supervisor_.server(), signal);
        if (::poll(&server, 1, kServerPatience) > 0) break;
      }
    reap_server();
    server_.close();
  }

  Result<void> clean(const Outcome& outcome) {
    lift_memory_limit();
    wait_for_server();
    Result<void> result = whole_cgroup_.remove();
    if (request_.remove || !started_) {
      auto removed = remove_container();
      if (result) result = removed;
    } else {
      write_exit(outcome);
    }
    if (result) result = file_.remove();
    return result;
  }

  Result<void> remove_container() {
    LAYERFS_ASSIGN(auto store, store::Store::open(request_.mount.store_root, store::StoreAccess::kWrite));
    return store->remove_container(state_.id);
  }

  void write_exit(const Outcome& outcome) {
    auto written = exit_.write({outcome.status, std::time(nullptr), outcome.out_of_memory});
    if (!written) log_warning("write how the container ended: {}", written.error().message());
  }

  RunRequest& request_;
  SyncChannel client_;
  SyncChannel server_;
  Fd processes_;  // a procfs of the container's PID namespace; may be empty
  mount::Supervisor supervisor_;
  RunningState state_;
  RunningFile file_;
  ExitFile exit_;
  sys::CgroupDirs whole_cgroup_;   // of the container and its server (RUN.md)
  sys::CgroupDirs cgroup_;         // of the container's processes: below it, or the same
  sys::CgroupDirs server_cgroup_;  // below it, too; may be empty
  plan::CgroupPlan open_memory_;   // whole_cgroup_ without limits of memory; empty where there are none
  Fd server_pidfd_;
  Fd master_;
  Fd output_;
  std::string unwritten_;  // of the changes that the server could not write at its end
  bool started_ = false;
};

}  // namespace

void run_monitor(RunRequest& request, SyncChannel client, RunningFile running) {
  // Its own session: signals of the terminal are the client's to forward. Blocked ones of the client stay so.
  ::setsid();
  if (::chdir("/") != 0) log_debug("chdir '/': {}", errno_text(errno));
  // Descriptors that the caller happens to have open are not for a process that outlives it. First out of the
  // way, then into place: either may be where the other belongs.
  constexpr int kClient = 3;
  constexpr int kRunning = 4;
  int high_client = ::fcntl(client.fd(), F_DUPFD_CLOEXEC, kRunning + 1);
  int high_running = ::fcntl(running.fd(), F_DUPFD_CLOEXEC, kRunning + 1);
  if (high_client < 0 || high_running < 0) ::_exit(1);
  client.close();
  {
    RunningFile closed(std::move(running));
  }
  if (::dup3(high_client, kClient, O_CLOEXEC) < 0 || ::dup3(high_running, kRunning, O_CLOEXEC) < 0)
    ::_exit(1);
  if (!sys::close_from(kRunning + 1, sys::CloseMode::kClose)) ::_exit(1);
  try {
    RunningFile file = RunningFile::adopt(request.mount.store_root, request.mount.upper_id, Fd(kRunning));
    Monitor(request, SyncChannel(Fd(kClient)), std::move(file)).run();
  } catch (const std::exception& error) {
    log_error("{}", error.what());
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace layerfs::run
