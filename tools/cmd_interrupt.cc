// SPDX-License-Identifier: Apache-2.0
#include "tools/cmd_interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <span>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"

namespace layerfs::tools {

namespace {

constexpr int kGrace = 3000;  // ms from the signal to the next step of the work

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) sigaddset(&set, number);
  }
  return set;
}

[[noreturn]] void end_by(int number) {
  ::signal(number, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::kill(::getpid(), number);
  ::_exit(128 + number);  // not reached, unless the signal is delivered to another thread a moment later
}

}  // namespace

InterruptWatch::InterruptWatch() {
  sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, &before_);
  signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  done_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (signals_ && done_)
    thread_ = std::thread([this] { watch(); });
  else
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);  // then a signal ends the program at once
}

InterruptWatch::~InterruptWatch() {
  if (!thread_.joinable()) return;
  std::uint64_t one = 1;
  if (auto told = write_full(done_.get(), std::as_bytes(std::span(&one, 1))); !told)
    log_warning("{}", told.error().message());
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void InterruptWatch::watch() {
  std::array<pollfd, 2> waits{{{.fd = done_.get(), .events = POLLIN, .revents = 0},
                               {.fd = signals_.get(), .events = POLLIN, .revents = 0}}};
  signalfd_siginfo info{};
  for (;;) {
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[0].revents != 0) return;
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) break;
  }
  caught_ = static_cast<int>(info.ssi_signo);
  while (::poll(waits.data(), 1, kGrace) < 0) {
  }
  if (waits[0].revents != 0) return;
  // One that came meanwhile was part of the same request: timeout(1) signals both the process and its group.
  bool is_told_again = false;
  while (is_met_ && !is_told_again) {
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    }
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[0].revents != 0) return;
    is_told_again = true;
  }
  end_by(caught_);
}

Result<void> InterruptWatch::check() const {
  if (caught_ == 0) return {};
  is_met_ = true;
  return system_error(EINTR, "signal", std::to_string(caught_));
}

void InterruptWatch::end_if_interrupted() {
  if (caught_ != 0) end_by(caught_);
}

}  // namespace layerfs::tools
