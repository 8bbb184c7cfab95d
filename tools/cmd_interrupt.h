// SPDX-License-Identifier: Apache-2.0
// InterruptWatch: SIGINT, SIGTERM and SIGHUP of a command that makes files. The work under way meets them as
// an error at its next step and cleans up as after any error; then the program ends by the signal, as its
// caller expects.
//
// (1) To be made before any other thread: the signals are blocked in all that are started later.
// (2) What does not come to its next step within some seconds (it waits for a pipe) ends by the signal then,
//     without cleaning up. What has met it may clean up for as long as it takes, or until a further signal.
// (3) A signal that the caller ignores (nohup(1)) stays ignored.
#pragma once

#include <signal.h>

#include <atomic>
#include <thread>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::tools {

class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  /// Errors: EINTR where a signal came. From any thread.
  Result<void> check() const;
  /// Where a signal came, and the work ended with an error because of it: ends the program by that signal.
  void end_if_interrupted();

 private:
  void watch();

  sigset_t before_{};
  Fd signals_;
  Fd done_;
  std::atomic<int> caught_{0};
  mutable std::atomic<bool> is_met_ = false;  ///< check() has told the work
  std::thread thread_;
};

}  // namespace layerfs::tools
