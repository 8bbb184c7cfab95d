// SPDX-License-Identifier: Apache-2.0
// LinuxSyscalls: files, namespaces and limits. Mounts are in linux_mounts.cc.
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fs/base/sys_file.h"
#include "runtime/sys/syscalls.h"

namespace layerfs::sys {

Result<Fd> LinuxSyscalls::open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) {
  return layerfs::open_in_root(root_fd, path, flags, mode);
}

Result<Fd> LinuxSyscalls::open_path(const std::string& path, int flags) {
  return layerfs::open_file(path, flags);
}

Result<Fd> LinuxSyscalls::open_at(int dir_fd, const std::string& name, int flags, mode_t mode) {
  return layerfs::open_at(dir_fd, name, flags, mode);
}

Result<void> LinuxSyscalls::make_dir_at(int dir_fd, const std::string& name, mode_t mode) {
  if (::mkdirat(dir_fd, name.c_str(), mode) != 0) return system_error(errno, "create directory", name);
  return {};
}

Result<void> LinuxSyscalls::make_node_at(int dir_fd, const std::string& name, mode_t mode,
                                         std::uint64_t rdev) {
  if (::mknodat(dir_fd, name.c_str(), mode, rdev) != 0) return system_error(errno, "create node", name);
  return {};
}

Result<void> LinuxSyscalls::make_link_at(const std::string& target, int dir_fd, const std::string& name) {
  if (::symlinkat(target.c_str(), dir_fd, name.c_str()) != 0) return system_error(errno, "create link", name);
  return {};
}

Result<std::string> LinuxSyscalls::read_link_at(int dir_fd, const std::string& name) {
  std::array<char, 4096> buffer;
  ssize_t size = ::readlinkat(dir_fd, name.c_str(), buffer.data(), buffer.size());
  if (size < 0) return system_error(errno, "read link", name);
  if (static_cast<std::size_t>(size) == buffer.size()) return system_error(ENAMETOOLONG, "read link", name);
  return std::string(buffer.data(), static_cast<std::size_t>(size));
}

Result<void> LinuxSyscalls::set_owner_at(int dir_fd, const std::string& name, uid_t uid, gid_t gid,
                                         mode_t mode) {
  if (::fchownat(dir_fd, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error(errno, "chown", name);
  if (::fchmodat(dir_fd, name.c_str(), mode & 07777, 0) != 0) return system_error(errno, "chmod", name);
  return {};
}

Result<void> LinuxSyscalls::set_xattr(int fd, const std::string& name, std::string_view value) {
  return set_xattr_fd(fd, name, value);
}

Result<struct stat> LinuxSyscalls::stat_fd(int fd) { return layerfs::stat_fd(fd); }

Result<FsFacts> LinuxSyscalls::fs_facts(int fd) {
  struct statfs facts;
  if (::fstatfs(fd, &facts) != 0) return system_error(errno, "statfs");
  struct Pair {
    unsigned long st;
    unsigned long ms;
  };
  // The flags of statfs(2) have numbers of their own.
  constexpr std::array<Pair, 7> kPairs{{{ST_RDONLY, MS_RDONLY},
                                        {ST_NOSUID, MS_NOSUID},
                                        {ST_NODEV, MS_NODEV},
                                        {ST_NOEXEC, MS_NOEXEC},
                                        {ST_NOATIME, MS_NOATIME},
                                        {ST_NODIRATIME, MS_NODIRATIME},
                                        {ST_RELATIME, MS_RELATIME}}};
  FsFacts result{facts.f_type, 0};
  for (const auto& pair : kPairs)
    if ((static_cast<unsigned long>(facts.f_flags) & pair.st) != 0) result.flags |= pair.ms;
  return result;
}

Result<void> LinuxSyscalls::write_all(int fd, std::string_view text) {
  // One write(2): files of proc and cgroups take a value whole or not at all.
  ssize_t size = 0;
  do {
    size = ::write(fd, text.data(), text.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) return system_error(errno, "write");
  if (static_cast<std::size_t>(size) != text.size()) return system_error(EIO, "write");
  return {};
}

Result<std::string> LinuxSyscalls::read_all(int fd, std::size_t limit) {
  std::string text(limit + 1, '\0');
  LAYERFS_ASSIGN(std::size_t size, read_full(fd, std::as_writable_bytes(std::span(text))));
  if (size > limit) return invalid_error("read", "", "longer than " + std::to_string(limit) + " bytes");
  text.resize(size);
  return text;
}

Result<void> LinuxSyscalls::change_dir_fd(int fd) {
  if (::fchdir(fd) != 0) return system_error(errno, "change directory");
  return {};
}

Result<void> LinuxSyscalls::change_dir(const std::string& path) {
  if (::chdir(path.c_str()) != 0) return system_error(errno, "chdir to", path);
  return {};
}

Result<void> LinuxSyscalls::unshare(int flags) {
  if (::unshare(flags) != 0) return system_error(errno, "unshare");
  return {};
}

Result<void> LinuxSyscalls::set_hostname(const std::string& name) {
  if (::sethostname(name.data(), name.size()) != 0) return system_error(errno, "");
  return {};
}

Result<void> LinuxSyscalls::set_domainname(const std::string& name) {
  if (::setdomainname(name.data(), name.size()) != 0) return system_error(errno, "");
  return {};
}

Result<void> LinuxSyscalls::loopback_up() {
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return system_error(errno, "create socket");
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  if (::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return system_error(errno, "read interface flags");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return system_error(errno, "set interface flags");
  return {};
}

Result<void> LinuxSyscalls::new_session() {
  if (::setsid() < 0) return system_error(errno, "new session");
  return {};
}

Result<void> LinuxSyscalls::set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard) {
  rlimit64 limit{soft, hard};
  if (::prlimit64(0, static_cast<__rlimit_resource>(resource), &limit, nullptr) != 0)
    return system_error(errno, "set limit");
  return {};
}

}  // namespace layerfs::sys
