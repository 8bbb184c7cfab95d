// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/sync_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

namespace layerfs::container {

namespace {

constexpr std::size_t kTextLimit = 4096;

struct Header {
  std::uint32_t kind;
  std::int32_t value;
};

Result<void> send_parts(int socket, std::span<iovec> parts, int fd) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return {};
    if (errno != EINTR) return system_error(errno, "send on the sync channel");
  }
}

}  // namespace

Result<std::pair<SyncChannel, SyncChannel>> SyncChannel::make_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error(errno, "create socket pair");
  return std::pair{SyncChannel(Fd(ends[0])), SyncChannel(Fd(ends[1]))};
}

Result<void> SyncChannel::send(MessageKind kind, std::int32_t value, const std::string& text, int fd) {
  Header header{static_cast<std::uint32_t>(kind), value};
  std::size_t length = text.size() < kTextLimit ? text.size() : kTextLimit;
  std::array<iovec, 2> parts{{{&header, sizeof header}, {const_cast<char*>(text.data()), length}}};
  return send_parts(fd_.get(), parts, fd);
}

Result<void> SyncChannel::send_descriptor(int fd, const std::string& name) {
  std::array<iovec, 1> parts{{{const_cast<char*>(name.data()), name.size()}}};
  return send_parts(fd_.get(), parts, fd);
}

Result<Message> SyncChannel::receive() {
  std::array<char, sizeof(Header) + kTextLimit> buffer;
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr raw{};
  raw.msg_iov = &part;
  raw.msg_iovlen = 1;
  raw.msg_control = control.data();
  raw.msg_controllen = control.size();
  ssize_t size = 0;
  do {
    size = ::recvmsg(fd_.get(), &raw, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && errno == ECONNRESET) return Message{};
  if (size < 0) return system_error(errno, "receive on the sync channel");
  Message message;
  for (cmsghdr* part_header = CMSG_FIRSTHDR(&raw); part_header != nullptr;
       part_header = CMSG_NXTHDR(&raw, part_header)) {
    if (part_header->cmsg_level != SOL_SOCKET || part_header->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(part_header), sizeof fd);
    message.fd = Fd(fd);
  }
  if (size == 0) return message;
  if (static_cast<std::size_t>(size) < sizeof(Header) || (raw.msg_flags & MSG_TRUNC) != 0)
    return corrupt_error("receive on the sync channel", "", "a message of the wrong size");
  Header header;
  std::memcpy(&header, buffer.data(), sizeof header);
  message.kind = static_cast<MessageKind>(header.kind);
  message.value = header.value;
  message.text.assign(buffer.data() + sizeof header, static_cast<std::size_t>(size) - sizeof header);
  return message;
}

}  // namespace layerfs::container
