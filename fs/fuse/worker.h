// SPDX-License-Identifier: Apache-2.0
// Worker: what belongs to one serving thread: its buffers, and the parts of the request at hand that
// libfuse does not hand on to the operation.
//
// (1) One request at a time, answered on the thread that read it; nothing here is shared.
// (2) current_worker() is a thread-local pointer because libfuse gives an operation no data of its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fs/fuse/caller_cpu.h"
#include "fs/fuse/ring.h"

namespace layerfs::fuse {

/// Fields of the kernel's message (linux/fuse.h) that struct fuse_file_info and the operations' arguments
/// leave out.
struct RequestDetails {
  std::uint64_t unique = 0;          ///< the request's number, the one it had when it was sent first
  bool resent = false;               ///< sent again after FUSE_NOTIFY_RESEND
  bool may_wait_for_disk = false;    ///< an operation that flushes, or moves more than a message's bytes
  std::uint32_t caller = 0;          ///< the thread that made it; 0: none, or of another PID namespace
  std::uint32_t write_flags = 0;     ///< FUSE_WRITE: FUSE_WRITE_*
  std::uint32_t setattr_valid = 0;   ///< FUSE_SETATTR: FATTR_*
  std::uint32_t setxattr_flags = 0;  ///< FUSE_SETXATTR: FUSE_SETXATTR_ACL_KILL_SGID; 0 unless negotiated
};

/// Reads the details off a raw message. `extended_setxattr`: FUSE_SETXATTR_EXT was negotiated.
RequestDetails read_details(std::span<const std::byte> message, bool extended_setxattr);

class Worker {
 public:
  /// Room for one message of at most `message_size` bytes. `processes`: a procfs of the PID namespace in which
  /// requests number their callers, open as long as this object lives; -1: there is none.
  explicit Worker(std::size_t message_size, int processes = -1);
  /// For requests of `ring`, which has their messages and gives room for replies.
  Worker(Ring& ring, int processes);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  /// Makes every page of the message buffer present (KEEPER.md, "Who is killed while it reads").
  void touch_message_buffer();
  std::span<std::byte> message_buffer() { return {message_.get(), message_size_}; }
  /// At least `size` bytes for a reply, contents undefined. Kept from request to request.
  std::span<std::byte> reply_buffer(std::size_t size);

  /// Of whose requests this worker takes; null: those of /dev/fuse.
  Ring* ring() const { return ring_; }

  int processes() const { return processes_; }

  RequestDetails details;
  /// A change that comes while the file system is frozen is not waited for: it sets `is_held_back` and gets no
  /// answer, so that the session can make it later (session.h, invariant 7).
  bool may_hold_back = false;
  bool is_held_back = false;
  CallerCpu caller_cpu;  ///< not of a ring's worker, whose requests are of one processor already

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  const int processes_;
  Ring* ring_ = nullptr;
  std::unique_ptr<std::byte, Free> message_;
  std::size_t message_size_ = 0;
  std::unique_ptr<std::byte, Free> reply_;
  std::size_t reply_size_ = 0;
};

/// The worker of this thread. Requires: called from an operation.
Worker& current_worker();
/// The same, null on a thread that is no worker.
Worker* find_current_worker();

}  // namespace layerfs::fuse
