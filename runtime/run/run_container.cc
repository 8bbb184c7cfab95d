// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/run_container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "fs/base/log.h"
#include "fs/base/process_start.h"
#include "fs/base/sys_file.h"
#include "runtime/container/foreground.h"
#include "runtime/run/monitor.h"
#include "runtime/run/running_file.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::run {

namespace {

using container::Message;
using container::MessageKind;
using container::SyncChannel;

class Client {
 public:
  Client(RunRequest& request, SyncChannel monitor, pid_t monitor_pid, Fd signal_fd)
      : request_(request),
        monitor_(std::move(monitor)),
        monitor_pid_(monitor_pid),
        signal_fd_(std::move(signal_fd)) {}

  Result<int> run() {
    LAYERFS_TRY(await_start());
    if (ended_) return finish();
    if (request_.detach) return 0;
    container::Foreground foreground;
    foreground.signal_fd = signal_fd_.get();
    foreground.done_fd = monitor_.fd();
    foreground.master = std::move(master_);
    foreground.forward_input = request_.interactive;
    foreground.forward = [&](int number) {
      if (auto sent = sys::send_signal(init_.get(), number); !sent) log_debug("{}", sent.error().message());
    };
    foreground.on_done = [&] { return take_end(); };
    LAYERFS_TRY(container::run_foreground(foreground));
    return finish();
  }

 private:
  Result<void> await_start() {
    for (;;) {
      LAYERFS_ASSIGN(Message message, monitor_.receive());
      if (message.kind == MessageKind::kConsole) {
        master_ = std::move(message.fd);
        continue;
      }
      if (message.kind == kStarted) {
        init_ = std::move(message.fd);
        return {};
      }
      return keep_end(message);
    }
  }

  Result<bool> take_end() {
    LAYERFS_ASSIGN(Message message, monitor_.receive());
    LAYERFS_TRY(keep_end(message));
    return true;
  }

  Result<void> keep_end(const Message& message) {
    ended_ = true;
    if (message.kind == kEnded) {
      status_ = message.value;
      message_ = message.text;
      return {};
    }
    // The monitor was killed: its init dies with it, and the cleaning is ours.
    message_ = "the container's monitor was killed, and the container with it";
    return clean_after_monitor();
  }

  Result<void> clean_after_monitor() {
    if (init_) {
      pollfd init{init_.get(), POLLIN, 0};
      ::poll(&init, 1, -1);
    }
    LAYERFS_ASSIGN(auto found, find_running(request_.mount.store_root, request_.mount.upper_id));
    if (!found) return {};
    // The server holds the upper's lock until everything is written.
    if (auto lock = open_file(request_.mount.upper_dir + "/lock", O_RDONLY); lock)
      LAYERFS_TRY(lock_file(lock->get(), LockMode::kShared, LockWait::kYes));
    return clean_up(request_.mount.store_root, found->state);
  }

  Result<int> finish() {
    if (auto waited = sys::wait_child(monitor_pid_); !waited) log_debug("{}", waited.error().message());
    if (!message_.empty()) write_standard_error(fmt::format("layerfs: {}\n", message_));
    return status_;
  }

  RunRequest& request_;
  SyncChannel monitor_;
  pid_t monitor_pid_;
  Fd signal_fd_;
  Fd master_;
  Fd init_;
  int status_ = 125;
  std::string message_;
  bool ended_ = false;
};

}  // namespace

Result<int> run_container(RunRequest& request, RunningFile running) {
  Fd signal_fd;
  if (!request.detach) {
    LAYERFS_ASSIGN(signal_fd, container::make_signal_fd());
    container::take_callers_size(request.plan.steps);  // a later change of it is a signal
  }
  LAYERFS_ASSIGN(auto ends, SyncChannel::make_pair());
  std::fflush(nullptr);  // what is buffered is printed once, not by each process
  pid_t pid = ::fork();
  if (pid < 0) return system_error(errno, "fork");
  if (pid == 0) {
    ends.first.close();
    run_monitor(request, std::move(ends.second), std::move(running));
  }
  ends.second.close();
  {
    RunningFile given_up(std::move(running));  // the lock is the monitor's alone from here
  }
  return Client(request, std::move(ends.first), pid, std::move(signal_fd)).run();
}

}  // namespace layerfs::run
