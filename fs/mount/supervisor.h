// SPDX-License-Identifier: Apache-2.0
// Supervisor: what a process that keeps a mount alive (KEEPER.md) knows of its servers: what they told it, how the
// last one ended, and whether there is to be another. The keeper of `layerfs mount` and the monitor of `layerfs
// run` have one each; starting a server, signals and what comes of a mount that is given up are theirs. One
// thread.
//
//     no server --started()--> a server runs --reap()--> it has ended: served, or died
//         ^                                                                      |
//         +------------------------- may_replace(): true ------------------------+--> false: given up
//
// (1) The device is open here from when a server has told it until take_handover() or give_up(): so long the
//     kernel keeps the connection.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "fs/base/fd.h"
#include "fs/fuse/fuse_server.h"
#include "fs/mount/restart_rule.h"

namespace layerfs::mount {

class Supervisor {
 public:
  enum class End : std::uint8_t {
    kServed,           ///< the mount is gone, and everything is written
    kServedUnwritten,  ///< the mount is gone, but what was changed last could not be written
    kDied
  };

  /// A server was forked: `server`, and this process's end of its link (keeper_link.h).
  void started(pid_t server, Fd link);
  bool is_running() const { return server_ > 0; }
  /// -1: none runs.
  pid_t server() const { return server_; }
  /// To be polled: readable when the server has told something and when it is dead. -1 once hear() has seen that.
  int link() const { return link_.get(); }
  /// Takes what the server told. Waits. Requires: link() is open.
  void hear();
  /// Waits for the server's end, and hears what it told before. Requires: is_running().
  End reap();
  /// The last server died, and none was started since.
  bool has_died() const { return !is_running() && died_; }
  /// "was killed by signal 9". Requires: reap().
  std::string how_it_ended() const;

  /// A server has answered, so another can take the mount over.
  bool can_replace() const { return static_cast<bool>(held_.device); }
  /// What the next server is given. Requires: can_replace().
  const fuse::Handover& handover() const { return held_; }
  fuse::Handover take_handover() { return std::move(held_); }
  /// Counts a death. True: another is to be started, after pause(). False: none any more, and why_not() says why.
  bool may_replace() { return rule_.may_restart(RestartRule::Clock::now()); }
  /// Sleeps a little where the last one died at once.
  void pause() const;
  std::string why_not() const { return rule_.why(); }
  /// Closes the device: the kernel ends the connection where it is still there, and nobody waits for an answer.
  void give_up() { held_.device.reset(); }

 private:
  pid_t server_ = -1;
  Fd link_;
  fuse::Handover held_;
  RestartRule rule_;
  int status_ = 0;  // of the last that ended, as waitpid(2) has it
  bool died_ = false;
};

}  // namespace layerfs::mount
