// SPDX-License-Identifier: Apache-2.0
// runtime-spec, config-linux.md, "Network Devices"; rtnetlink(7), netlink(7).
#include "runtime/sys/net_device.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/sys_file.h"
#include "runtime/sys/clone.h"

namespace layerfs::sys {

namespace {

/// A request: header, body, attributes.
class RouteMessage {
 public:
  template <class Body>
  RouteMessage(std::uint16_t type, unsigned flags, const Body& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
    append(&header, sizeof header);
    append(&body, sizeof body);
  }

  void add(unsigned type, const void* data, std::size_t size) {
    rtattr attribute{};
    attribute.rta_type = static_cast<unsigned short>(type);
    attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
    append(&attribute, sizeof attribute);
    append(data, size);
  }
  void add(unsigned type, const std::string& text) { add(type, text.c_str(), text.size() + 1); }
  void add(unsigned type, int value) { add(type, &value, sizeof value); }

  std::span<const std::byte> finish(std::uint32_t sequence) {
    nlmsghdr header;
    std::memcpy(&header, bytes_.data(), sizeof header);
    header.nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    header.nlmsg_seq = sequence;
    std::memcpy(bytes_.data(), &header, sizeof header);
    return bytes_;
  }

 private:
  void append(const void* data, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }

  std::vector<std::byte> bytes_;
};

/// One message of an answer: its body, and the attributes after it.
struct RouteAnswer {
  std::uint16_t type = 0;
  std::vector<std::byte> bytes;

  template <class Body>
  Body body() const {
    Body value{};
    std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
    return value;
  }
  /// Calls `each` with the type and the value of every attribute after a Body.
  template <class Body, class Each>
  void attributes(Each each) const {
    std::size_t at = NLMSG_ALIGN(sizeof(Body));
    while (at + sizeof(rtattr) <= bytes.size()) {
      rtattr attribute;
      std::memcpy(&attribute, bytes.data() + at, sizeof attribute);
      if (attribute.rta_len < sizeof attribute || attribute.rta_len > bytes.size() - at) return;
      each(attribute.rta_type,
           std::span(bytes).subspan(at + sizeof attribute, attribute.rta_len - sizeof attribute));
      at += RTA_ALIGN(attribute.rta_len);
    }
  }
};

/// A socket in one network namespace.
class RouteSocket {
 public:
  static Result<RouteSocket> open() {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!fd) return system_error(errno, "create netlink socket");
    return RouteSocket(std::move(fd));
  }

  /// Every message of the answer. Errors: the kernel's.
  Result<std::vector<RouteAnswer>> ask(RouteMessage& message) {
    std::uint32_t sequence = ++sequence_;
    auto bytes = message.finish(sequence);
    if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return system_error(errno, "send to rtnetlink");
    std::vector<RouteAnswer> answers;
    for (;;) {
      LAYERFS_ASSIGN(bool over, receive(sequence, answers));
      if (over) return answers;
    }
  }

 private:
  explicit RouteSocket(Fd fd) : fd_(std::move(fd)) {}

  /// True where the answer is complete.
  Result<bool> receive(std::uint32_t sequence, std::vector<RouteAnswer>& answers) {
    constexpr std::size_t kLargest = std::size_t{1} << 16;  // of a dump's part (netlink(7))
    std::vector<std::byte> buffer(kLargest);
    ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) return false;
    if (got < 0) return system_error(errno, "receive from rtnetlink");
    auto size = static_cast<std::size_t>(got);
    for (std::size_t at = 0; at + sizeof(nlmsghdr) <= size;) {
      nlmsghdr header;
      std::memcpy(&header, buffer.data() + at, sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > size - at) break;
      const std::byte* data = buffer.data() + at + NLMSG_HDRLEN;
      at += NLMSG_ALIGN(header.nlmsg_len);
      if (header.nlmsg_seq != sequence) continue;
      if (header.nlmsg_type == NLMSG_DONE) return true;
      if (header.nlmsg_type != NLMSG_ERROR) {
        answers.push_back({header.nlmsg_type, {data, data + header.nlmsg_len - NLMSG_HDRLEN}});
        continue;
      }
      int code = 0;
      std::memcpy(&code, data, sizeof code);
      if (code != 0) return system_error(-code, "");
      return true;  // the acknowledgement
    }
    return false;
  }

  Fd fd_;
  std::uint32_t sequence_ = 0;
};

/// A socket stays in the namespace in which it was made.
Result<RouteSocket> open_route_socket_in(int namespace_fd) {
  LAYERFS_ASSIGN(Fd own, open_file("/proc/self/ns/net", O_RDONLY));
  LAYERFS_TRY(join_namespace(namespace_fd, CLONE_NEWNET));
  auto socket = RouteSocket::open();
  LAYERFS_TRY(join_namespace(own.get(), CLONE_NEWNET));
  return socket;
}

/// nullopt where there is none of that name.
Result<std::optional<int>> find_interface(RouteSocket& socket, const std::string& name) {
  RouteMessage message(RTM_GETLINK, NLM_F_ACK, ifinfomsg{});
  message.add(IFLA_IFNAME, name);
  auto answers = socket.ask(message);
  if (!answers && answers.error().code == ENODEV) return std::nullopt;
  if (!answers) return std::unexpected(answers.error());
  for (const auto& answer : *answers)
    if (answer.type == RTM_NEWLINK) return answer.body<ifinfomsg>().ifi_index;
  return std::nullopt;
}

/// `wanted`, or where that is taken the number after the highest.
Result<int> choose_index(RouteSocket& socket, int wanted) {
  RouteMessage message(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  LAYERFS_ASSIGN(auto answers, socket.ask(message));
  std::set<int> taken;
  for (const auto& answer : answers) taken.insert(answer.body<ifinfomsg>().ifi_index);
  return taken.contains(wanted) ? *taken.rbegin() + 1 : wanted;
}

Result<std::vector<RouteAnswer>> permanent_addresses(RouteSocket& socket, int index) {
  RouteMessage message(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  LAYERFS_ASSIGN(auto answers, socket.ask(message));
  std::erase_if(answers, [&](const RouteAnswer& answer) {
    auto address = answer.body<ifaddrmsg>();
    return answer.type != RTM_NEWADDR || address.ifa_index != static_cast<unsigned>(index) ||
           (address.ifa_flags & IFA_F_PERMANENT) == 0 || address.ifa_scope != RT_SCOPE_UNIVERSE;
  });
  return answers;
}

Result<void> add_address(RouteSocket& socket, const RouteAnswer& found, int index,
                         const std::string& old_name) {
  auto address = found.body<ifaddrmsg>();
  address.ifa_index = static_cast<unsigned>(index);
  RouteMessage message(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, address);
  found.attributes<ifaddrmsg>([&](unsigned type, std::span<const std::byte> value) {
    std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
    // The interface's name, unless it is a label of its own: the kernel gives it the new one.
    if (type == IFA_LABEL && text.substr(0, text.find('\0')) == old_name) return;
    message.add(type, value.data(), value.size());
  });
  auto added = socket.ask(message);
  if (!added) return with_context(added.error(), "give the interface its address", "");
  return {};
}

Result<void> set_up(RouteSocket& socket, int index) {
  ifinfomsg link{};
  link.ifi_index = index;
  link.ifi_flags = link.ifi_change = IFF_UP;
  RouteMessage message(RTM_NEWLINK, NLM_F_ACK, link);
  auto done = socket.ask(message);
  if (!done) return with_context(done.error(), "set the interface up", "");
  return {};
}

}  // namespace

Result<void> move_net_device(const std::string& name, const std::string& new_name, int namespace_fd) {
  LAYERFS_ASSIGN(RouteSocket here, RouteSocket::open());
  LAYERFS_ASSIGN(RouteSocket there, open_route_socket_in(namespace_fd));
  LAYERFS_ASSIGN(auto index, find_interface(here, name));
  if (!index) return system_error(ENODEV, "find interface", name);
  // Asked before, as the kernel would rename it only when it has moved.
  LAYERFS_ASSIGN(auto same, find_interface(there, new_name));
  if (same) return system_error(EEXIST, "name of the interface", new_name);
  LAYERFS_ASSIGN(auto addresses, permanent_addresses(here, *index));
  // With a number that we choose it is known there even where the kernel makes its name.
  LAYERFS_ASSIGN(int new_index, choose_index(there, *index));
  ifinfomsg link{};
  link.ifi_index = *index;
  RouteMessage message(RTM_NEWLINK, NLM_F_ACK, link);
  message.add(IFLA_NET_NS_FD, namespace_fd);
  message.add(IFLA_IFNAME, new_name);
  message.add(IFLA_NEW_IFINDEX, new_index);
  auto moved = here.ask(message);
  if (!moved) return with_context(moved.error(), "move interface", name);
  LAYERFS_TRY(set_up(there, new_index));
  for (const auto& address : addresses) LAYERFS_TRY(add_address(there, address, new_index, name));
  return {};
}

}  // namespace layerfs::sys
