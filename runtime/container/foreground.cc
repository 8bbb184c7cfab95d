// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/foreground.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "runtime/sys/terminal.h"

namespace layerfs::container {

namespace {

/// Those that concern this process alone: faults, stops of its own, and children.
constexpr int kNotForwarded[] = {SIGCHLD, SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGTRAP, SIGABRT,
                                 SIGSYS,  SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGPROF, SIGURG};

constexpr int kEndAgain = 200;  // ms

sys::WindowSize callers_size() {
  return sys::window_size(sys::is_terminal(STDIN_FILENO) ? STDIN_FILENO : STDOUT_FILENO);
}

class Loop {
 public:
  explicit Loop(Foreground& foreground) : foreground_(foreground) {}

  Result<void> run() {
    stdin_open_ = foreground_.forward_input;
    if (foreground_.master) LAYERFS_TRY(begin_terminal());
    for (;;) {
      // A descriptor below zero is not looked at (poll(2)).
      std::array<pollfd, 5> fds{
          {{foreground_.done_fd, POLLIN, 0},
           {foreground_.signal_fd, POLLIN, 0},
           {foreground_.master.get(), POLLIN, 0},
           {stdin_open_ && input_.empty() && foreground_.master ? STDIN_FILENO : -1, POLLIN, 0},
           {input_.empty() ? -1 : foreground_.master.get(), POLLOUT, 0}}};
      int ready = ::poll(fds.data(), fds.size(), input_ended_ && input_.empty() ? kEndAgain : -1);
      if (ready < 0) {
        if (errno == EINTR) continue;
        return system_error(errno, "wait for the container");
      }
      if (ready == 0) say_end();
      if (fds[1].revents != 0) read_signals();
      if (fds[2].revents != 0) read_master();
      if (fds[3].revents != 0) read_input();
      if (fds[4].revents != 0) write_master();
      if (fds[0].revents == 0) continue;
      LAYERFS_ASSIGN(bool done, foreground_.on_done());
      if (!done) continue;
      while (foreground_.master && read_master()) {
      }
      return {};
    }
  }

 private:
  Result<void> begin_terminal() {
    int flags = ::fcntl(foreground_.master.get(), F_GETFL);
    if (::fcntl(foreground_.master.get(), F_SETFL, flags | O_NONBLOCK) != 0)
      return system_error(errno, "set terminal");
    copy_window_size();
    if (!foreground_.forward_input || !sys::is_terminal(STDIN_FILENO)) return {};
    LAYERFS_ASSIGN(auto raw, sys::RawTerminal::make(STDIN_FILENO));
    raw_.emplace(std::move(raw));
    return {};
  }

  void copy_window_size() {
    auto size = callers_size();
    if (size.rows == 0 && size.columns == 0) return;
    if (auto set = sys::set_window_size(foreground_.master.get(), size); !set)
      log_debug("{}", set.error().message());
  }

  void read_signals() {
    signalfd_siginfo info;
    while (::read(foreground_.signal_fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      int number = static_cast<int>(info.ssi_signo);
      if (number != SIGWINCH)
        foreground_.forward(number);
      else if (foreground_.master)
        copy_window_size();
    }
  }

  /// False when there is nothing more for now, or for ever: the last slave closed is EIO (pty(7)).
  bool read_master() {
    std::array<std::byte, 65536> buffer;
    ssize_t got = ::read(foreground_.master.get(), buffer.data(), buffer.size());
    if (got > 0) {
      if (auto written = write_full(STDOUT_FILENO, std::span(buffer).first(static_cast<std::size_t>(got)));
          !written)
        log_debug("{}", written.error().message());
      return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) foreground_.master.reset();
    return false;
  }

  void read_input() {
    std::array<char, 4096> buffer;
    ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got > 0) input_.assign(buffer.data(), static_cast<std::size_t>(got));
    if (got <= 0) stdin_open_ = got < 0 && errno == EINTR;
    if (got == 0 && !sys::is_terminal(STDIN_FILENO)) {
      input_ended_ = true;
      say_end();
    }
    write_master();
  }

  /// The end of a file or pipe is, for a program at a terminal, Ctrl-D at the beginning of a line. One is not
  /// enough: a file stays at its end whoever reads next, and a shell that has only begun to set up its
  /// terminal drops what came before.
  void say_end() {
    if (!foreground_.master) {
      input_ended_ = false;
      return;
    }
    input_.assign(1, '\x04');
    write_master();
  }

  void write_master() {
    if (input_.empty() || !foreground_.master) return;
    ssize_t put = ::write(foreground_.master.get(), input_.data(), input_.size());
    if (put > 0) input_.erase(0, static_cast<std::size_t>(put));
    if (put < 0 && errno != EAGAIN && errno != EINTR) input_.clear();
  }

  Foreground& foreground_;
  std::optional<sys::RawTerminal> raw_;
  std::string input_;
  bool stdin_open_ = true;
  bool input_ended_ = false;  // and the program at the terminal is told so, again and again
};

}  // namespace

Result<Fd> make_signal_fd() {
  sigset_t set;
  ::sigfillset(&set);
  for (int number : kNotForwarded) ::sigdelset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return system_error(errno, "block signals");
  int fd = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return system_error(errno, "create signal descriptor");
  return Fd(fd);
}

void take_callers_size(std::vector<plan::Step>& steps) {
  for (auto& step : steps) {
    auto* console = std::get_if<plan::ConsoleStep>(&step);
    if (console == nullptr) continue;
    auto size = callers_size();
    if (size.rows == 0 && size.columns == 0) return;
    console->height = size.rows;
    console->width = size.columns;
    return;
  }
}

Result<void> run_foreground(Foreground& foreground) { return Loop(foreground).run(); }

}  // namespace layerfs::container
