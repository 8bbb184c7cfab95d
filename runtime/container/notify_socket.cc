// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/notify_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "fs/base/sys_file.h"

namespace layerfs::container {

namespace {

constexpr std::string_view kVariable = "NOTIFY_SOCKET";
constexpr const char* kInside = "/run/notify";  // where runc has it
constexpr const char* kName = "notify.sock";
constexpr int kBarrierTimeout = 5'000;  // ms

std::string host_socket() {
  const char* path = std::getenv(kVariable.data());
  return path == nullptr ? std::string() : path;
}

Result<sockaddr_un> address_of(const std::string& path, socklen_t& size) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return system_error(ENAMETOOLONG, "environment", kVariable);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  // "@name" is one of the abstract namespace (unix(7)).
  bool is_abstract = path.front() == '@';
  if (is_abstract) address.sun_path[0] = '\0';
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (is_abstract ? 0 : 1));
  return address;
}

bool says_ready(std::string_view message) {
  while (!message.empty()) {
    std::string_view line = message.substr(0, message.find('\n'));
    if (line == "READY=1") return true;
    message.remove_prefix(std::min(message.size(), line.size() + 1));
  }
  return false;
}

Result<void> send_to_host(int socket, const std::string& text, int fd) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
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
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0) return system_error(errno, "send to", host_socket());
  return {};
}

/// The manager looks a message's sender up when it reads it, and drops what nobody sent any more: we must
/// not end before it has (sd_notify_barrier(3)).
Result<void> wait_for_manager(int socket) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error(errno, "create pipe");
  Fd reading(ends[0]);
  Fd writing(ends[1]);
  LAYERFS_TRY(send_to_host(socket, "BARRIER=1", writing.get()));
  writing.reset();
  pollfd closed{reading.get(), POLLHUP, 0};
  ::poll(&closed, 1, kBarrierTimeout);
  return {};
}

Result<void> tell_host(pid_t pid) {
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error(errno, "create socket");
  socklen_t size = 0;
  LAYERFS_ASSIGN(sockaddr_un address, address_of(host_socket(), size));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return system_error(errno, "connect to", host_socket());
  LAYERFS_TRY(send_to_host(socket.get(), "MAINPID=" + std::to_string(pid) + "\nREADY=1\n", -1));
  return wait_for_manager(socket.get());
}

}  // namespace

bool add_notify_socket(spec::ContainerSpec& spec, const std::string& directory) {
  if (host_socket().empty()) return false;
  auto is_variable = [](const std::string& item) { return item.starts_with("NOTIFY_SOCKET="); };
  auto is_mount = [](const spec::Mount& mount) { return mount.destination == kInside; };
  if (std::ranges::any_of(spec.process.env, is_variable) || std::ranges::any_of(spec.mounts, is_mount))
    return false;
  spec.mounts.push_back({kInside, "bind", directory, {"bind", "nosuid", "noexec", "nodev", "ro"}, {}, {}});
  spec.process.env.push_back(std::string(kVariable) + '=' + kInside + '/' + kName);
  return true;
}

Result<Fd> bind_notify_socket(const std::string& directory) {
  if (host_socket().empty()) return Fd();
  auto place = open_file(directory, O_PATH | O_DIRECTORY);
  if (!place && place.error().code == ENOENT) return Fd();
  if (!place) return place;
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error(errno, "create socket");
  // By the directory's descriptor: a path of a state directory may be longer than an address (unix(7)).
  std::string path = "/proc/self/fd/" + std::to_string(place->get()) + '/' + kName;
  socklen_t size = 0;
  LAYERFS_ASSIGN(sockaddr_un address, address_of(path, size));
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return system_error(errno, "bind", directory + '/' + kName);
  // The container's users may all write to it.
  if (::chmod(path.c_str(), 0777) != 0) return system_error(errno, "chmod", directory + '/' + kName);
  return socket;
}

Result<void> pass_on_ready(int socket, pid_t pid, int pidfd, int stop_fd) {
  for (;;) {
    std::array<pollfd, 3> fds{{{socket, POLLIN, 0}, {pidfd, POLLIN, 0}, {stop_fd, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return system_error(errno, "wait for readiness");
    }
    if ((fds[0].revents & POLLIN) != 0) {
      std::array<char, 4096> message;
      // Without a buffer for descriptors: what the container sends along is dropped.
      ssize_t got = ::recv(socket, message.data(), message.size(), MSG_DONTWAIT);
      if (got > 0 && says_ready({message.data(), static_cast<std::size_t>(got)})) return tell_host(pid);
      continue;
    }
    if (fds[1].revents != 0 || fds[2].revents != 0) return {};
  }
}

}  // namespace layerfs::container
