// SPDX-License-Identifier: Apache-2.0
// Terminals: pseudo-terminal pairs, raw mode, window sizes (pty(7), ioctl_tty(2)).
#pragma once

#include <termios.h>

#include <cstdint>
#include <utility>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::sys {

struct WindowSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

/// Unlocks the terminal of an open ptmx and opens its slave by TIOCGPTPEER: never by a path. Errors: ENOTTY,
/// EINVAL.
Result<Fd> open_terminal_peer(int master_fd);
Result<void> set_window_size(int fd, WindowSize size);
/// Zeros where `fd` is no terminal.
WindowSize window_size(int fd);
/// `fd` becomes the controlling terminal of this session. Requires: a session leader without one.
Result<void> set_controlling_terminal(int fd);
bool is_terminal(int fd);

/// Puts a terminal into raw mode while it lives.
class RawTerminal {
 public:
  static Result<RawTerminal> make(int fd);
  RawTerminal(RawTerminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}
  RawTerminal(const RawTerminal&) = delete;
  ~RawTerminal() { restore(); }
  void restore();

 private:
  RawTerminal(int fd, const termios& saved) : fd_(fd), saved_(saved) {}
  int fd_;
  termios saved_;
};

}  // namespace layerfs::sys
