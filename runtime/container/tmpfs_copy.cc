// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/tmpfs_copy.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/sys_file.h"

namespace layerfs::container {

namespace {

constexpr int kDepthLimit = 64;

Result<void> copy_bytes(int from, int to) {
  for (;;) {
    ssize_t sent = ::sendfile(to, from, nullptr, std::size_t{1} << 20);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return system_error(errno, "copy");
    if (sent == 0) return {};
  }
}

Result<void> copy_owner(const struct stat& st, int to) {
  if (::fchown(to, st.st_uid, st.st_gid) != 0 && errno != EPERM && errno != EINVAL)
    return system_error(errno, "chown");
  if (::fchmod(to, st.st_mode & 07777) != 0) return system_error(errno, "chmod");
  return {};
}

Result<void> copy_tree(int from_fd, int to_fd, int depth);

Result<void> copy_entry(int from_fd, int to_fd, const std::string& name, int depth) {
  LAYERFS_ASSIGN(auto found, find_stat_at(from_fd, name, AT_SYMLINK_NOFOLLOW));
  if (!found) return {};
  if (S_ISDIR(found->st_mode)) {
    if (::mkdirat(to_fd, name.c_str(), 0700) != 0) return system_error(errno, "create directory", name);
    LAYERFS_ASSIGN(Fd from, open_at(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LAYERFS_ASSIGN(Fd to, open_at(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LAYERFS_TRY(copy_tree(from.get(), to.get(), depth + 1));
    return copy_owner(*found, to.get());
  }
  if (S_ISREG(found->st_mode)) {
    LAYERFS_ASSIGN(Fd from, open_at(from_fd, name, O_RDONLY | O_NOFOLLOW));
    LAYERFS_ASSIGN(Fd to, open_at(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    LAYERFS_TRY(copy_bytes(from.get(), to.get()));
    return copy_owner(*found, to.get());
  }
  if (S_ISLNK(found->st_mode)) {
    std::array<char, 4096> target{};
    ssize_t size = ::readlinkat(from_fd, name.c_str(), target.data(), target.size() - 1);
    if (size < 0) return system_error(errno, "read link", name);
    if (::symlinkat(target.data(), to_fd, name.c_str()) != 0) return system_error(errno, "create link", name);
  }
  return {};
}

Result<void> copy_tree(int from_fd, int to_fd, int depth) {
  if (depth > kDepthLimit) return system_error(ELOOP, "copy");
  LAYERFS_ASSIGN(auto names, list_dir_at(from_fd));
  for (const auto& name : names)
    if (auto copied = copy_entry(from_fd, to_fd, name, depth); !copied)
      return with_context(copied.error(), "copy", name);
  return {};
}

}  // namespace

Result<void> copy_into_tmpfs(int from_fd, int to_fd) {
  LAYERFS_ASSIGN(struct stat st, stat_fd(from_fd));
  LAYERFS_TRY(copy_tree(from_fd, to_fd, 0));
  return copy_owner(st, to_fd);
}

}  // namespace layerfs::container
