// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/server_process.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <optional>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/ready_pipe.h"

namespace layerfs::mount {
namespace {

/// Serves a session over an opened stack; what is left unsynced at its end is synced.
Result<Served> serve_until_end(MountedStack& stack, fuse::FuseServer& server, bool outlives_server) {
  if (auto watched = stack.watch_connection(server.device()); !watched)
    log_warning("{}", watched.error().message());
  Result<void> served;
  {
    SignalWatch watch(server);
    served = server.serve();
  }
  // A mount without a server would only answer ENOTCONN; one that is kept alive gets another.
  if (!served && !outlives_server) server.unmount();
  auto synced = stack.fs().sync();
  if (!served) {
    if (!synced) log_error("{}", synced.error().message());
    return std::unexpected(served.error());
  }
  Served done;
  if (!synced) done.unwritten = with_context(synced.error(), "write what was changed last").error();
  return done;
}

}  // namespace

int log_served(const Result<Served>& served) {
  if (!served) {
    log_error("{}", served.error().message());
    return EXIT_FAILURE;
  }
  if (!served->unwritten) return kServedExit;
  log_error("{}", served->unwritten->message());
  return kServedUnwrittenExit;
}

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  return set;
}

/// A signal to a whole group reaches the server twice, once through its keeper: no second request.
constexpr std::chrono::seconds kSameRequest{1};

struct SignalWatch::Watcher {
  Fd signals;
  Fd end;
  std::thread thread;

  void run(fuse::FuseServer& server) {
    using Clock = std::chrono::steady_clock;
    std::optional<Clock::time_point> asked;
    while (true) {
      std::array<pollfd, 2> waits{{{.fd = signals.get(), .events = POLLIN, .revents = 0},
                                   {.fd = end.get(), .events = POLLIN, .revents = 0}}};
      if (::poll(waits.data(), waits.size(), -1) < 0) continue;
      if (waits[1].revents != 0) return;
      signalfd_siginfo info{};
      if (::read(signals.get(), &info, sizeof info) != sizeof info) continue;
      if (asked && Clock::now() - *asked < kSameRequest) continue;
      log_info("signal {}: {}", info.ssi_signo, asked ? "stopping" : "unmounting");
      if (asked)
        server.stop();
      else
        server.unmount();
      if (!asked) asked = Clock::now();
    }
  }
};

void SignalWatch::block() {
  sigset_t set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

SignalWatch::SignalWatch(fuse::FuseServer& server) : watcher_(std::make_unique<Watcher>()) {
  sigset_t set = ending_signals();
  watcher_->signals = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  watcher_->end = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!watcher_->signals || !watcher_->end) {
    // The mount works without; it then ends by umount only.
    log_warning("signals: {}", errno_text(errno));
    return;
  }
  watcher_->thread = std::thread([watcher = watcher_.get(), &server] { watcher->run(server); });
}

SignalWatch::~SignalWatch() {
  if (!watcher_->thread.joinable()) return;
  std::uint64_t one = 1;
  if (auto told = write_full(watcher_->end.get(), std::as_bytes(std::span(&one, 1))); !told)
    log_error("{}", told.error().message());
  watcher_->thread.join();
}

void prepare_server_process() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);  // fewer open files are only slower
  }
  ::signal(SIGPIPE, SIG_IGN);
  SignalWatch::block();
}

Result<Served> run_server(const MountRequest& request, const std::string& mountpoint, Fd ready, Fd link) {
  // The upper and its lock first: a failure leaves no mount behind.
  auto stack = MountedStack::open(request);
  // Closed before the failure is told: whoever hears of it may remove the upper at once.
  auto fail = [&](Error error) -> Result<Served> {
    if (stack) stack->reset();
    send_outcome(ready, std::unexpected(error));
    return std::unexpected(std::move(error));
  };
  if (!stack) return fail(stack.error());
  if (auto started = (*stack)->start_control(); !started) return fail(started.error());
  auto server = fuse::FuseServer::mount(mountpoint, request.fuse, (*stack)->fs());
  if (!server) return fail(server.error());
  if (link) {
    // Before the command hears that it is mounted: from then on the mount outlives this process.
    auto handover = (*server)->handover();
    auto told = handover ? tell_keeper(link.get(), *handover) : std::unexpected(handover.error());
    if (!told) log_warning("the mount will end with its server: {}", told.error().message());
  }
  send_outcome(ready, {});
  return serve_until_end(**stack, **server, static_cast<bool>(link));
}

Result<Served> resume_server(const MountRequest& request, const std::string& mountpoint,
                             fuse::Handover handover, Fd link) {
  auto opened = MountedStack::open(request, OpenFor::kTakeover, handover.device.get());
  // Unmounted while it waited for the upper: that is an end as any other, and no death for the keeper.
  if (!opened && opened.error().code == ENODEV) {
    log_info("{}", opened.error().message());
    return Served{};
  }
  if (!opened) return std::unexpected(std::move(opened).error());
  auto stack = std::move(*opened);
  LAYERFS_TRY(stack->start_control());
  LAYERFS_ASSIGN(auto server,
                 fuse::FuseServer::take_over(std::move(handover), mountpoint, request.fuse, stack->fs()));
  if (auto told = tell_keeper(link.get(), {}); !told) log_info("{}", told.error().message());
  return serve_until_end(*stack, *server, true);
}

Result<Served> serve_device(const MountRequest& request, fuse::Handover handover, Fd link) {
  prepare_server_process();
  if (!handover.init.empty()) return resume_server(request, {}, std::move(handover), std::move(link));
  LAYERFS_ASSIGN(auto stack, MountedStack::open(request));
  LAYERFS_TRY(stack->start_control());
  LAYERFS_ASSIGN(auto server,
                 fuse::FuseServer::attach(std::move(handover.device), request.fuse, stack->fs()));
  if (link) {
    LAYERFS_ASSIGN(auto next, server->handover());
    if (auto told = tell_keeper(link.get(), next); !told) log_info("{}", told.error().message());
  }
  return serve_until_end(*stack, *server, static_cast<bool>(link));
}

}  // namespace layerfs::mount
