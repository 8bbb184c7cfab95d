// SPDX-License-Identifier: Apache-2.0
// The monitor: parent of a container's init and of its file system server (RUN.md). Single-threaded.
#pragma once

#include "runtime/container/sync_channel.h"
#include "runtime/run/run_container.h"

namespace layerfs::run {

/// What the monitor tells the client, as MessageKind values of their own.
inline constexpr auto kStarted =
    container::MessageKind{16};  ///< the program runs; the descriptor is the init's pidfd
inline constexpr auto kEnded =
    container::MessageKind{17};  ///< `value` is the exit status, `text` a message or empty

/// Runs in the forked monitor process and never returns.
[[noreturn]] void run_monitor(RunRequest& request, container::SyncChannel client, RunningFile running);

}  // namespace layerfs::run
