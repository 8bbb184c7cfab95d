// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <array>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/mount/control_address.h"

namespace layerfs::mount {
namespace {

constexpr std::size_t kMaxReply = std::size_t{64} << 10;

/// An empty Fd where nobody listens: no socket, or one whose server died.
Result<Fd> connect_control(const std::string& upper_dir) {
  LAYERFS_ASSIGN(auto directory, open_file(upper_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error(errno, "socket");
  ControlAddress address(directory.get());
  if (::connect(socket.get(), address.get(), address.size()) == 0) return socket;
  int code = errno;
  if (code == ENOENT || code == ECONNREFUSED) return Fd();
  return system_error(code, "connect to the mount of", upper_dir);
}

/// One line without its end.
Result<std::string> request(int socket, std::string_view line) {
  LAYERFS_TRY(write_full(socket, as_bytes(fmt::format("{}\n", line))));
  std::string reply;
  std::array<char, 1024> buffer{};
  while (reply.size() < kMaxReply) {
    ssize_t count = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    reply.append(buffer.data(), static_cast<std::size_t>(count));
    if (reply.back() == '\n') {
      reply.pop_back();
      return reply;
    }
  }
  return system_error(ECONNRESET, "ask the mount", line);
}

}  // namespace

ControlAddress::ControlAddress(int directory) {
  address_.sun_family = AF_UNIX;
  // At most "/proc/self/fd/2147483647/control": it always fits.
  auto end = fmt::format_to_n(address_.sun_path, sizeof address_.sun_path - 1, "/proc/self/fd/{}/{}",
                              directory, kControlName);
  *end.out = '\0';
}

Result<Fd> freeze_upper(const std::string& upper_dir) {
  LAYERFS_ASSIGN(auto socket, connect_control(upper_dir));
  if (!socket) return Fd();
  LAYERFS_ASSIGN(auto reply, request(socket.get(), "freeze"));
  if (reply == "ok") return socket;
  constexpr std::string_view kPrefix = "error ";
  Error error;
  error.code = EBUSY;
  error.context = fmt::format("freeze the mount of '{}'", upper_dir);
  error.reason = reply.starts_with(kPrefix) ? reply.substr(kPrefix.size()) : reply;
  return std::unexpected(std::move(error));
}

Result<void> check_frozen(const Fd& frozen) {
  char byte = 0;
  ssize_t count = ::recv(frozen.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  return system_error(ECONNRESET, "keep the mount frozen: its server died");
}

Result<std::string> mount_stats(const std::string& upper_dir) {
  LAYERFS_ASSIGN(auto socket, connect_control(upper_dir));
  if (!socket) return std::string();
  return request(socket.get(), "stats");
}

}  // namespace layerfs::mount
