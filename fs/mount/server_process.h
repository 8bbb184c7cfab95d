// SPDX-License-Identifier: Apache-2.0
// The life of a server process: limits and signals at its start, serving, and what is synced at its end.
#pragma once

#include <signal.h>

#include <memory>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/fuse/fuse_server.h"
#include "fs/mount/mount.h"

namespace layerfs::mount {

/// Turns SIGTERM, SIGINT and SIGHUP into one unmount() of the server, and one that comes a second or more
/// later into stop(), by a thread of its own, while this object lives. The signals are blocked from block()
/// on, in the thread that calls it and all that it starts later: call it before any other thread is started.
class SignalWatch {
 public:
  static void block();
  explicit SignalWatch(fuse::FuseServer& server);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  struct Watcher;
  std::unique_ptr<Watcher> watcher_;
};

/// What a process that will serve does first: descriptors up to the hard limit, SIGPIPE ignored, signals
/// blocked for SignalWatch.
void prepare_server_process();

/// The exit statuses of a server that served its mount to the end. Any other end of the process is a death, after
/// which its Supervisor may start another.
inline constexpr int kServedExit = 0;
inline constexpr int kServedUnwrittenExit = 3;  ///< Served::unwritten

/// Logs what went wrong, if anything did, and returns the process's exit status.
int log_served(const Result<Served>& served);

/// SIGTERM, SIGINT and SIGHUP: what ends a mount.
sigset_t ending_signals();

/// Mounts, tells `ready` the outcome, serves until the end and syncs. The error is the mount's or the
/// serving's; one that was told to `ready` is returned too. `link` (may be empty): keeper_link.h; told before
/// `ready`.
Result<Served> run_server(const MountRequest& request, const std::string& mountpoint, Fd ready, Fd link);

/// Takes over the mount whose server died and serves it until the end.
Result<Served> resume_server(const MountRequest& request, const std::string& mountpoint,
                             fuse::Handover handover, Fd link);

}  // namespace layerfs::mount
