// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/sync_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "fs/base/bytes.h"
#include "fs/base/descriptor_message.h"

namespace layerfs::container {

namespace {

constexpr std::size_t kTextLimit = 4096;

struct Header {
  std::uint32_t kind;
  std::int32_t value;
};

}  // namespace

Result<std::pair<SyncChannel, SyncChannel>> SyncChannel::make_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error(errno, "create socket pair");
  return std::pair{SyncChannel(Fd(ends[0])), SyncChannel(Fd(ends[1]))};
}

Result<void> SyncChannel::send(MessageKind kind, std::int32_t value, const std::string& text, int fd) {
  Header header{static_cast<std::uint32_t>(kind), value};
  std::string data(sizeof header, '\0');
  std::memcpy(data.data(), &header, sizeof header);
  data.append(text, 0, kTextLimit);
  return send_with_descriptor(fd_.get(), std::as_bytes(std::span(data)), fd);
}

Result<void> SyncChannel::send_descriptor(int fd, const std::string& name) {
  return send_with_descriptor(fd_.get(), std::as_bytes(std::span(name)), fd);
}

Result<Message> SyncChannel::receive() {
  std::array<std::byte, sizeof(Header) + kTextLimit> buffer;
  auto received = receive_with_descriptor(fd_.get(), buffer);
  if (!received && received.error().code == ECONNRESET) return Message{};
  if (!received) return with_context(received.error(), "sync channel");
  Message message;
  message.fd = std::move(received->fd);
  if (received->size == 0) return message;
  if (received->size < sizeof(Header) || received->truncated)
    return corrupt_error("receive on the sync channel", "", "a message of the wrong size");
  Header header;
  std::memcpy(&header, buffer.data(), sizeof header);
  message.kind = static_cast<MessageKind>(header.kind);
  message.value = header.value;
  message.text = as_text(std::span(buffer).first(received->size).subspan(sizeof header));
  return message;
}

}  // namespace layerfs::container
