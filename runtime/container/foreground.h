// SPDX-License-Identifier: Apache-2.0
// A container in the foreground: signals that reach this process go to the container, and with a terminal its
// bytes go both ways until the container ends.
//
// (1) The caller's terminal is restored on every way out.
// (2) No byte that the container wrote before it ended is lost.
#pragma once

#include <functional>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "runtime/plan/step.h"

namespace layerfs::container {

/// Blocks every signal that is to be forwarded and makes a signalfd of them. Call it before the container is
/// made, so that none is lost; its init resets its own mask.
Result<Fd> make_signal_fd();

/// The terminal that `steps` make has the size of the caller's before a program can ask for it. Where the
/// caller has none, it stays as the configuration says.
void take_callers_size(std::vector<plan::Step>& steps);

struct Foreground {
  int signal_fd = -1;
  int done_fd = -1;           ///< readable (or hung up) when something happened to the container
  Fd master;                  ///< the terminal's; empty: none
  bool forward_input = true;  ///< standard input goes to the terminal
  std::function<void(int signal)> forward;
  /// Called when done_fd is ready. True ends the loop.
  std::function<Result<bool>()> on_done;
};

/// Returns when on_done said so.
Result<void> run_foreground(Foreground& foreground);

}  // namespace layerfs::container
