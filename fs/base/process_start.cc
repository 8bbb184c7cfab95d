// SPDX-License-Identifier: Apache-2.0
#include "fs/base/process_start.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <span>

#include "fs/base/sys_file.h"

namespace layerfs {

namespace {

void own_standard_streams() {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is this one: those below are open. Without close-on-exec, as a stream is passed
    // on.
    int opened = ::open("/dev/null", O_RDWR);
    // Where there is no /dev, what can be neither read nor written keeps the number at least.
    if (opened < 0) opened = ::open("/", O_PATH);
    if (opened != fd) std::_Exit(1);
  }
}

void reset_inherited_signals() {
  struct sigaction usual{};
  usual.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &usual, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

void begin_process() {
  own_standard_streams();
  reset_inherited_signals();
}

void write_standard_error(std::string_view text) {
  [[maybe_unused]] auto ignored = write_full(STDERR_FILENO, std::as_bytes(std::span(text)));
}

}  // namespace layerfs
