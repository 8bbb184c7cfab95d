// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/reply_road.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <span>

namespace layerfs::fuse {
namespace {

// linux/fuse.h, newer than the oldest headers.
constexpr std::uint32_t kInitExtended = 1U << 30;  // FUSE_INIT_EXT: flags2 counts
constexpr std::uint32_t kOverIoUring = 1U << 9;    // FUSE_OVER_IO_URING, in flags2

/// Says in the reply to INIT that requests are to come by the rings. libfuse would say so only for rings of
/// its own, whose threads keep the message from the operations.
void announce_rings(std::span<const iovec> reply) {
  if (reply.size() != 2 || reply[1].iov_len < sizeof(fuse_init_out)) return;
  fuse_init_out out{};
  std::memcpy(&out, reply[1].iov_base, sizeof out);
  out.flags |= kInitExtended;
  out.flags2 |= kOverIoUring;
  std::memcpy(reply[1].iov_base, &out, sizeof out);
}

ssize_t write_reply(int device, iovec* parts, int count, void* userdata) {
  auto& adapter = *static_cast<Adapter*>(userdata);
  const std::span<const iovec> reply(parts, static_cast<std::size_t>(count));
  const Worker* worker = find_current_worker();
  if (worker != nullptr && worker->ring() != nullptr && worker->ring()->reply(reply))
    return std::accumulate(reply.begin(), reply.end(), ssize_t{0}, [](ssize_t sum, const iovec& part) {
      return sum + static_cast<ssize_t>(part.iov_len);
    });
  // The first reply is INIT's: nothing else is asked before it is answered.
  if (!adapter.init_answered) {
    adapter.init_answered = true;
    if (!adapter.rings.empty()) announce_rings(reply);
  }
  return ::writev(device, parts, count);
}

/// Never called: Session reads by itself.
ssize_t read_request(int device, void* buffer, std::size_t size, void* /*userdata*/) {
  return ::read(device, buffer, size);
}

}  // namespace

void route_replies(fuse_session* session, Adapter& adapter, Fd& device) {
  fuse_custom_io roads{};
  roads.writev = write_reply;
  roads.read = read_request;
  if (fuse_session_custom_io(session, &roads, device.get()) != 0) return;
  device.release();  // the session closes it
  adapter.routes_replies = true;
}

}  // namespace layerfs::fuse
