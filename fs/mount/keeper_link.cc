// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/keeper_link.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/descriptor_message.h"

namespace layerfs::mount {
namespace {

/// Before the INIT message, so that a datagram without one is told from the end of the file.
constexpr char kAnswers = 'A';
/// The message has some hundred bytes in every version of the protocol.
constexpr std::size_t kMaxHandover = 4096;

}  // namespace

Result<std::pair<Fd, Fd>> make_keeper_link() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error(errno, "socketpair");
  return std::pair{Fd(ends[0]), Fd(ends[1])};
}

Result<void> tell_keeper(int link, const fuse::Handover& handover) {
  auto sent = send_with_descriptor(link, as_bytes(kAnswers + handover.init), handover.device.get());
  if (!sent) return with_context(sent.error(), "tell the keeper");
  return {};
}

Result<std::optional<fuse::Handover>> hear_server(int link) {
  std::array<std::byte, kMaxHandover> buffer;
  auto message = receive_with_descriptor(link, buffer);
  if (!message && message.error().code == ECONNRESET) return std::nullopt;
  if (!message) return with_context(message.error(), "hear the server");
  if (message->size == 0) return std::nullopt;
  fuse::Handover handover;
  handover.init = as_text(std::span(buffer).first(message->size).subspan(1));
  handover.device = std::move(message->fd);
  return handover;
}

}  // namespace layerfs::mount
