// SPDX-License-Identifier: Apache-2.0
// SyncChannel: the socket between a container's creator and its init while it is being made. One message a
// datagram (SOCK_SEQPACKET), with at most one descriptor.
//
// (1) The init's end is close-on-exec for the container's program: its end of file without a kFailed before
//     it means that the program runs.
// (2) Sending never raises SIGPIPE; a peer that is gone is EPIPE, or kClosed on receiving.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::container {

enum class MessageKind : std::uint32_t {
  kClosed = 0,      ///< never sent: the peer is gone
  kGo = 1,          ///< creator -> init: id maps are written, the cgroup is joined; `value` is its pid there
  kFuseDevice = 2,  ///< init -> creator, with the descriptor of a mounted /dev/fuse
  kConsole = 3,     ///< init -> creator, with the terminal's master
  kHooks = 4,       ///< init -> creator: run the runtime's hooks; answered by kGo
  kReady = 5,       ///< init -> creator: everything is set up
  kFailed = 6,      ///< init -> creator: `value` is the errno, `text` the whole message
  kExecFailed = 7,  ///< final stage -> creator: execve failed, `value` is its errno
  kPid = 8,         ///< stage -> creator: `value` is the init's pid
  kSource = 9,      ///< init -> creator: make the mount of step `value`, whose source the init may not reach;
                    ///< answered by the same, with the mount or without
  kProcesses = 11,  ///< init -> creator, before kFuseDevice: a procfs of the container's PID namespace
  kStageFailed = 10,  ///< final stage -> creator: `value` is the errno, `text` what failed
};

struct Message {
  MessageKind kind = MessageKind::kClosed;
  std::int32_t value = 0;
  std::string text;
  Fd fd;
};

class SyncChannel {
 public:
  SyncChannel() = default;
  explicit SyncChannel(Fd fd) : fd_(std::move(fd)) {}
  /// Two connected ends.
  static Result<std::pair<SyncChannel, SyncChannel>> make_pair();

  /// `fd` (-1: none) is sent along, not given up. Errors: EPIPE, ECONNRESET where the peer is gone.
  Result<void> send(MessageKind kind, std::int32_t value = 0, const std::string& text = {}, int fd = -1);
  /// Waits for a message. kClosed where the peer is gone. Errors: kCorrupt for a datagram of another form.
  Result<Message> receive();
  /// A descriptor with `name` as the data: what a console socket's owner expects (runc, terminals.md). Any
  /// kind of socket.
  Result<void> send_descriptor(int fd, const std::string& name);
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }
  /// Gives the descriptor up.
  Fd take() { return std::move(fd_); }

 private:
  Fd fd_;
};

}  // namespace layerfs::container
