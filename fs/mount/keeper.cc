// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/keeper.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <utility>

#include "fs/base/log.h"
#include "fs/fuse/device.h"
#include "fs/fuse/refusal.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/server_process.h"
#include "fs/mount/supervisor.h"

namespace layerfs::mount {
namespace {

class Keeper {
 public:
  Keeper(const MountRequest& request, const std::string& mountpoint, Fd ready)
      : request_(request), mountpoint_(mountpoint), ready_(std::move(ready)) {
    sigset_t set = ending_signals();
    // Where signalfd(2) fails the keeper forwards no signals; the server still gets those sent to itself.
    signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  Result<Served> run() {
    for (;;) {
      auto started = start_server();
      if (started) {
        Supervisor::End end = wait_for_server();
        if (end == Supervisor::End::kServed) return Served{};
        // The mount is gone in this case too, so another server would find nothing to serve.
        if (end == Supervisor::End::kServedUnwritten)
          return Served{system_error(EIO, "write what was changed last on", mountpoint_).error()};
      }
      if (!supervisor_.can_replace()) {
        if (!started) return std::unexpected(started.error());
        return system_error(EIO, "serve", mountpoint_);  // the server has said why
      }
      bool again = supervisor_.may_replace();
      log_error("the server of '{}' {}{}", mountpoint_,
                started ? supervisor_.how_it_ended() : "can't be started", again ? "; starting another" : "");
      if (!again) return give_up();
      supervisor_.pause();
    }
  }

 private:
  Result<void> start_server() {
    LAYERFS_ASSIGN(auto ends, make_keeper_link());
    pid_t pid = ::fork();
    if (pid < 0) return system_error(errno, "fork");
    if (pid == 0) {
      ends.first.reset();
      server_main(std::move(ends.second));
    }
    ready_.reset();
    supervisor_.started(pid, std::move(ends.first));
    return {};
  }

  [[noreturn]] void server_main(Fd link) {
    // A process group of the server's own: the terminal signals the keeper's group, and the keeper forwards the
    // signal, which would otherwise reach the server twice.
    ::setpgid(0, 0);
    signals_.reset();
    int status = 1;
    try {
      status =
          log_served(supervisor_.can_replace()
                         ? resume_server(request_, mountpoint_, supervisor_.take_handover(), std::move(link))
                         : run_server(request_, mountpoint_, std::move(ready_), std::move(link)));
    } catch (const std::exception& exception) {
      log_error("{}", exception.what());
    }
    ::_exit(status);  // not exit(): what the command registered with atexit() is its own
  }

  Supervisor::End wait_for_server() {
    while (supervisor_.link() >= 0) {
      std::array<pollfd, 2> waits{{{.fd = supervisor_.link(), .events = POLLIN, .revents = 0},
                                   {.fd = signals_.get(), .events = POLLIN, .revents = 0}}};
      if (::poll(waits.data(), waits.size(), -1) < 0) continue;
      if (waits[1].revents != 0) forward_signal();
      if (waits[0].revents != 0) supervisor_.hear();
    }
    return supervisor_.reap();
  }

  void forward_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) == sizeof info)
      ::kill(supervisor_.server(), static_cast<int>(info.ssi_signo));
  }

  /// No server is started any more: the keeper itself answers every request with EIO until the mount is gone, or
  /// until a signal asks it to unmount.
  Result<Served> give_up() {
    log_error("the server of '{}' {}; given up: the mount answers EIO until it is unmounted", mountpoint_,
              supervisor_.why_not());
    // A signal that came while the last server died was meant to end the mount.
    signalfd_siginfo info{};
    bool asked = ::read(signals_.get(), &info, sizeof info) == sizeof info;
    if (!asked) {
      auto refused = fuse::refuse_requests(supervisor_.handover().device.get(), EIO, signals_.get());
      if (!refused) log_error("{}", refused.error().message());
      asked = ::read(signals_.get(), &info, sizeof info) == sizeof info;
    }
    if (asked)
      if (auto done = fuse::unmount_path(mountpoint_, fuse::UnmountMode::kLazy); !done)
        log_error("{}", done.error().message());
    supervisor_.give_up();
    return system_error(EIO, "serve", mountpoint_);
  }

  const MountRequest& request_;
  const std::string& mountpoint_;
  Fd ready_;
  Fd signals_;
  Supervisor supervisor_;
};

}  // namespace

Result<Served> keep_mount(const MountRequest& request, const std::string& mountpoint, Fd ready) {
  return Keeper(request, mountpoint, std::move(ready)).run();
}

}  // namespace layerfs::mount
