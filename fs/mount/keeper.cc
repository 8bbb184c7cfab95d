// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/keeper.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <optional>
#include <thread>

#include "fs/base/log.h"
#include "fs/fuse/device.h"
#include "fs/fuse/refusal.h"
#include "fs/mount/keeper_link.h"
#include "fs/mount/restart_rule.h"
#include "fs/mount/server_process.h"

namespace layerfs::mount {
namespace {

class Keeper {
 public:
  Keeper(const MountRequest& request, const std::string& mountpoint, Fd ready)
      : request_(request), mountpoint_(mountpoint), ready_(std::move(ready)) {
    sigset_t set = ending_signals();
    // Without it the keeper hears no signal; the server still does.
    signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  Result<Served> run() {
    for (;;) {
      auto started = start_server();
      int status = started ? wait_for_server() : -1;
      if (started && WIFEXITED(status) && WEXITSTATUS(status) == kServedExit) return Served{};
      // The mount is gone all the same: another server would find nothing to serve.
      if (started && WIFEXITED(status) && WEXITSTATUS(status) == kServedUnwrittenExit)
        return Served{system_error(EIO, "write what was changed last on", mountpoint_).error()};
      if (!held_.device) {
        if (!started) return std::unexpected(started.error());
        return system_error(EIO, "serve", mountpoint_);  // the server has said why
      }
      bool again = rule_.may_restart(RestartRule::Clock::now());
      log_error("the server of '{}' {}{}", mountpoint_, started ? how_it_ended(status) : "can't be started",
                again ? "; starting another" : "");
      if (!again) return give_up();
      std::this_thread::sleep_for(rule_.pause());
    }
  }

 private:
  static std::string how_it_ended(int status) {
    return WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                               : "ended with status " + std::to_string(WEXITSTATUS(status));
  }

  Result<void> start_server() {
    LAYERFS_ASSIGN(auto ends, make_keeper_link());
    pid_t pid = ::fork();
    if (pid < 0) return system_error(errno, "fork");
    if (pid == 0) {
      ends.first.reset();
      server_main(std::move(ends.second));
    }
    ready_.reset();
    server_ = pid;
    link_ = std::move(ends.first);
    return {};
  }

  [[noreturn]] void server_main(Fd link) {
    // Signals of the terminal are the keeper's to forward: they would come twice.
    ::setpgid(0, 0);
    signals_.reset();
    int status = 1;
    try {
      status =
          log_served(held_.device ? resume_server(request_, mountpoint_, std::move(held_), std::move(link))
                                  : run_server(request_, mountpoint_, std::move(ready_), std::move(link)));
    } catch (const std::exception& exception) {
      log_error("{}", exception.what());
    }
    ::_exit(status);  // not exit(): what the command registered with atexit() is its own
  }

  /// Returns the server's wait status.
  int wait_for_server() {
    while (link_) {
      std::array<pollfd, 2> waits{{{.fd = link_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = signals_.get(), .events = POLLIN, .revents = 0}}};
      if (::poll(waits.data(), waits.size(), -1) < 0) continue;
      if (waits[1].revents != 0) forward_signal();
      if (waits[0].revents != 0) hear();
    }
    int status = 0;
    while (::waitpid(server_, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }

  void hear() {
    auto told = hear_server(link_.get());
    if (!told || !*told) return link_.reset();
    rule_.ready(RestartRule::Clock::now());
    if ((*told)->device) held_ = std::move(**told);
  }

  void forward_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) == sizeof info)
      ::kill(server_, static_cast<int>(info.ssi_signo));
  }

  /// The keeper stays to answer EIO itself, until the mount is gone or a signal asks for that.
  Result<Served> give_up() {
    log_error("the server of '{}' {}; given up: the mount answers EIO until it is unmounted", mountpoint_,
              rule_.why());
    // One that came while the last server died was for it.
    signalfd_siginfo info{};
    bool asked = ::read(signals_.get(), &info, sizeof info) == sizeof info;
    if (!asked) {
      auto refused = fuse::refuse_requests(held_.device.get(), EIO, signals_.get());
      if (!refused) log_error("{}", refused.error().message());
      asked = ::read(signals_.get(), &info, sizeof info) == sizeof info;
    }
    if (asked)
      if (auto done = fuse::unmount_path(mountpoint_, fuse::UnmountMode::kLazy); !done)
        log_error("{}", done.error().message());
    // Closed, the device ends the connection, where it is still there: nobody waits for an answer.
    held_.device.reset();
    return system_error(EIO, "serve", mountpoint_);
  }

  const MountRequest& request_;
  const std::string& mountpoint_;
  Fd ready_;
  Fd signals_;
  Fd link_;
  pid_t server_ = -1;
  fuse::Handover held_;
  RestartRule rule_;
};

}  // namespace

Result<Served> keep_mount(const MountRequest& request, const std::string& mountpoint, Fd ready) {
  return Keeper(request, mountpoint, std::move(ready)).run();
}

}  // namespace layerfs::mount
