// SPDX-License-Identifier: Apache-2.0
// Ring: one worker's part of FUSE over io_uring (Linux 6.14,
// Documentation/filesystems/fuse/fuse-io-uring.rst). Requests come and replies go by memory that is shared
// with the kernel, and one io_uring_enter(2) gives a reply and takes the next request, where /dev/fuse needs
// a writev(2) and a read(2).
//
// The kernel has a queue of requests for each processor. A ring has an entry, which is room for one request
// and its reply, in each of its queues. Several rings may have entries in one queue: the kernel takes a free
// one, so what waits for the disk in one of them holds up nobody.
//
// (1) Made by any thread; all other functions are called by the one thread that serves it.
// (2) A request is taken (next()), answered once (reply()), and its entry given back (finish()), in this
//     order, before another is taken.
// (3) The kernel waits with all requests until every queue has an entry, or a registration has failed; it
//     then uses /dev/fuse, as it does for FORGET and notifications in any case.
// (4) What a server that died had taken is lost until the connection ends: the kernel does not send it again.
//     So it is not for mounts that outlive their server (KEEPER.md).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::fuse {

class Ring {
 public:
  /// A ring on the connection `device` with an entry in each of `queues`, for replies and request data of up
  /// to `payload` bytes. Nothing is told to the connection yet. Errors: EOPNOTSUPP (built without liburing),
  /// ENOSYS, EPERM (the host has no io_uring for us), ENOMEM.
  static Result<std::unique_ptr<Ring>> make(int device, const std::vector<unsigned>& queues,
                                            std::size_t payload);
  virtual ~Ring() = default;

  /// The processor whose requests come here; empty where they are of several.
  virtual std::optional<unsigned> processor() const = 0;

  /// Offers the entries to the kernel; it has taken them once next() has returned.
  virtual void offer() = 0;
  /// Waits for a request and returns it in the form that read(2) of /dev/fuse gives it. Empty: a signal came.
  /// Errors: ENOTCONN, ECONNABORTED (the connection ended); others: the kernel did not take the entries.
  virtual Result<std::span<std::byte>> next() = 0;
  /// Room for a reply's data, which reply() then need not copy. Overlaps the data of the request (a WRITE's
  /// bytes, names), not what fuse_session_process_buf() reads of fixed size.
  virtual std::span<std::byte> reply_room() = 0;
  /// Takes the answer to the request at hand. False: `parts` (as for writev(2)) is no answer to it.
  virtual bool reply(std::span<const iovec> parts) = 0;
  /// Gives the entry back; what was not answered fails with EIO.
  virtual void finish() = 0;
};

/// How many queues the kernel makes: one for each processor that there may be. Errors: those of reading
/// /sys/devices/system/cpu/possible.
Result<unsigned> count_ring_queues();

/// The number of processors in a list of the kernel's, as "0-3,8". Errors: EINVAL.
Result<unsigned> count_processors(std::string_view list);

/// Rings for a whole connection: several for each queue, and never more threads than a large machine should
/// spend on one mount. Errors: as Ring::make() and count_ring_queues().
Result<std::vector<std::unique_ptr<Ring>>> make_rings(int device, std::size_t payload);

/// Which queues each ring has entries in, for `queues` of them.
std::vector<std::vector<unsigned>> share_queues(unsigned queues);

}  // namespace layerfs::fuse
