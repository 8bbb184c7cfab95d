// SPDX-License-Identifier: Apache-2.0
// Messages over a unix socket that carry a descriptor (SCM_RIGHTS, unix(7)).
#pragma once

#include <cstddef>
#include <span>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs {

/// Sends `data` in one sendmsg(2), with `fd` (-1: none), which is not given up. Never raises SIGPIPE. Errors:
/// EPIPE, ECONNRESET where the peer is gone.
Result<void> send_with_descriptor(int socket, std::span<const std::byte> data, int fd);

struct ReceivedMessage {
  std::size_t size = 0;  ///< 0: an empty message, or the peer is gone
  bool truncated = false;
  Fd fd;  ///< close-on-exec; empty where none came
};

/// Waits for one message. Errors: those of recvmsg(2), ECONNRESET too.
Result<ReceivedMessage> receive_with_descriptor(int socket, std::span<std::byte> buffer);

}  // namespace layerfs
