// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace layerfs::sys {

Result<Fd> open_terminal_peer(int master_fd) {
  int unlock = 0;
  if (::ioctl(master_fd, TIOCSPTLCK, &unlock) != 0) return system_error(errno, "unlock terminal");
  int slave = ::ioctl(master_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return system_error(errno, "open terminal");
  return Fd(slave);
}

Result<void> set_window_size(int fd, WindowSize size) {
  winsize value{};
  value.ws_row = size.rows;
  value.ws_col = size.columns;
  if (::ioctl(fd, TIOCSWINSZ, &value) != 0) return system_error(errno, "set window size");
  return {};
}

WindowSize window_size(int fd) {
  winsize value{};
  if (::ioctl(fd, TIOCGWINSZ, &value) != 0) return {};
  return {value.ws_row, value.ws_col};
}

Result<void> set_controlling_terminal(int fd) {
  if (::ioctl(fd, TIOCSCTTY, 0) != 0) return system_error(errno, "set controlling terminal");
  return {};
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

Result<RawTerminal> RawTerminal::make(int fd) {
  termios saved;
  if (::tcgetattr(fd, &saved) != 0) return system_error(errno, "read terminal settings");
  termios raw = saved;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSANOW, &raw) != 0) return system_error(errno, "set terminal settings");
  return RawTerminal(fd, saved);
}

void RawTerminal::restore() {
  if (fd_ >= 0) ::tcsetattr(std::exchange(fd_, -1), TCSADRAIN, &saved_);
}

}  // namespace layerfs::sys
