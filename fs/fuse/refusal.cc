// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/refusal.h"

#include <linux/fuse.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "fs/base/log.h"
#include "fs/fuse/capabilities.h"
#include "fs/fuse/notify.h"

namespace layerfs::fuse {
namespace {

/// The kernel refuses to read into less than its longest message: a WRITE with its headers.
constexpr std::size_t kLongestMessage = kMaxTransfer + 4096;

bool wants_answer(std::uint32_t opcode) {
  return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/// Answers one. False: nothing more will come.
Result<bool> refuse_one(int device, int code, std::vector<std::byte>& buffer) {
  ssize_t count = ::read(device, buffer.data(), buffer.size());
  int failure = errno;
  if (count < 0) {
    if (failure == ENODEV) return false;
    // ENOENT: taken back while it was copied.
    if (failure == EINTR || failure == EAGAIN || failure == ENOENT) return true;
    return system_error(failure, "read", "/dev/fuse");
  }
  fuse_in_header request{};
  if (static_cast<std::size_t>(count) < sizeof request) return system_error(EIO, "read", "/dev/fuse");
  std::memcpy(&request, buffer.data(), sizeof request);
  if (!wants_answer(request.opcode)) return true;
  const fuse_out_header answer{.len = sizeof answer, .error = -code, .unique = request.unique};
  count = ::write(device, &answer, sizeof answer);
  failure = errno;
  // ENOENT: nobody waits for it any more.
  if (count < 0 && failure != ENOENT && failure != EINTR) {
    if (failure == ENODEV) return false;
    return system_error(failure, "write", "/dev/fuse");
  }
  return true;
}

}  // namespace

Result<void> refuse_requests(int device, int code, int end) {
  std::vector<std::byte> buffer(kLongestMessage);
  // Where the kernel can't, it has failed them already: they were read by a descriptor that is closed.
  if (auto asked = ask_to_resend(device); !asked) log_debug("{}", asked.error().message());
  for (;;) {
    std::array<pollfd, 2> waits{
        {{.fd = device, .events = POLLIN, .revents = 0}, {.fd = end, .events = POLLIN, .revents = 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[1].revents != 0) return {};
    if ((waits[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return {};  // unmounted or aborted
    if (waits[0].revents == 0) continue;
    LAYERFS_ASSIGN(bool more, refuse_one(device, code, buffer));
    if (!more) return {};
  }
}

}  // namespace layerfs::fuse
