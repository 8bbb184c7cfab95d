// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/keeper_link.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

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
  std::string text = kAnswers + handover.init;
  iovec data{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (handover.device) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    int fd = handover.device.get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  while (::sendmsg(link, &message, MSG_NOSIGNAL) < 0)
    if (int code = errno; code != EINTR) return system_error(code, "tell the keeper");
  return {};
}

Result<std::optional<fuse::Handover>> hear_server(int link) {
  std::array<char, kMaxHandover> text{};
  iovec data{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count = 0;
  int code = 0;
  do {
    count = ::recvmsg(link, &message, MSG_CMSG_CLOEXEC);
    code = count < 0 ? errno : 0;
  } while (code == EINTR);
  if (code == ECONNRESET || count == 0) return std::nullopt;
  if (count < 0) return system_error(code, "hear the server");
  fuse::Handover handover;
  handover.init.assign(text.data() + 1, static_cast<std::size_t>(count) - 1);
  const cmsghdr* rights = CMSG_FIRSTHDR(&message);
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    handover.device = Fd(fd);
  }
  return handover;
}

}  // namespace layerfs::mount
