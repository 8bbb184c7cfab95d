// SPDX-License-Identifier: Apache-2.0
#include "fs/base/own_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fs/base/open_resolved.h"
#include "fs/base/sys_file.h"

namespace layerfs {

Result<Fd> open_own_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  // O_NONBLOCK is of no account for a regular file, and keeps the open of a fifo or a terminal from waiting
  // (open(2)). O_TRUNC comes after the look at what was opened.
  int first = (flags & ~O_TRUNC) | ((flags & O_PATH) == 0 ? O_NONBLOCK | O_NOCTTY : 0);
  auto fd = open_resolved(dir_fd, path, first, mode, Resolve::kNoLinks);
  if (!fd) {
    // ENXIO: a fifo without a reader, or a socket.
    if (fd.error().kind == ErrorKind::kSystem && fd.error().code == ENXIO)
      return corrupt_error("open", path, "not a regular file");
    return system_error(fd.error().code, "open", path);
  }
  if ((flags & (O_DIRECTORY | O_PATH)) != 0) return fd;
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd->get()));
  if (!S_ISREG(st.st_mode)) return corrupt_error("open", path, "not a regular file");
  if ((flags & O_TRUNC) != 0 && ::ftruncate(fd->get(), 0) != 0) return system_error(errno, "truncate", path);
  return fd;
}

Result<std::string> read_own_at(int dir_fd, const std::string& path, std::size_t limit) {
  LAYERFS_ASSIGN(Fd fd, open_own_at(dir_fd, path, O_RDONLY));
  auto text = read_all(fd.get(), limit);
  if (!text) return with_context(std::move(text).error(), "read", path);
  return text;
}

std::unexpected<Error> OwnDirectory::named(Error error, std::string_view operation,
                                           const std::string& path) const {
  error.context.clear();
  return with_context(std::move(error), operation, join_path(shown_, path));
}

Result<OwnDirectory::ParentAndName> OwnDirectory::open_parent(const std::string& path) const {
  std::size_t slash = path.rfind('/');
  std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return errno_error(EINVAL);
  LAYERFS_ASSIGN(Fd directory, open_own_at(directory_.get(), parent, O_PATH | O_DIRECTORY));
  return ParentAndName{std::move(directory), std::move(name)};
}

Result<Fd> OwnDirectory::open(const std::string& path, int flags, mode_t mode) const {
  auto fd = open_own_at(directory_.get(), path, flags, mode);
  if (!fd) return named(std::move(fd).error(), "open", path);
  return fd;
}

Result<std::string> OwnDirectory::read(const std::string& path, std::size_t limit) const {
  auto text = read_own_at(directory_.get(), path, limit);
  if (!text) return named(std::move(text).error(), "read", path);
  return text;
}

Result<std::optional<struct stat>> OwnDirectory::find_stat(const std::string& path) const {
  auto entry = open_parent(path);
  if (!entry && (entry.error().code == ENOENT || entry.error().code == ENOTDIR)) return std::nullopt;
  if (!entry) return named(std::move(entry).error(), "stat", path);
  auto found = find_stat_at(entry->parent.get(), entry->name, AT_SYMLINK_NOFOLLOW);
  if (!found) return named(std::move(found).error(), "stat", path);
  return found;
}

Result<void> OwnDirectory::make_dir(const std::string& path, mode_t mode) const {
  auto entry = open_parent(path);
  if (!entry) return named(std::move(entry).error(), "create directory", path);
  if (::mkdirat(entry->parent.get(), entry->name.c_str(), mode) == 0) return {};
  int code = errno;
  if (code == EEXIST) {
    LAYERFS_ASSIGN(auto there, find_stat_at(entry->parent.get(), entry->name, AT_SYMLINK_NOFOLLOW));
    if (there && S_ISDIR(there->st_mode)) return {};
    code = ENOTDIR;
  }
  return system_error(code, "create directory", join_path(shown_, path));
}

Result<void> OwnDirectory::rename(const std::string& from, const std::string& to, unsigned flags) const {
  auto old_entry = open_parent(from);
  if (!old_entry) return named(std::move(old_entry).error(), "rename", from);
  auto new_entry = open_parent(to);
  if (!new_entry) return named(std::move(new_entry).error(), "rename to", to);
  int done = flags == 0 ? ::renameat(old_entry->parent.get(), old_entry->name.c_str(),
                                     new_entry->parent.get(), new_entry->name.c_str())
                        : ::renameat2(old_entry->parent.get(), old_entry->name.c_str(),
                                      new_entry->parent.get(), new_entry->name.c_str(), flags);
  if (done != 0) return system_error(errno, "rename to", join_path(shown_, to));
  return {};
}

Result<void> OwnDirectory::unlink(const std::string& path) const {
  auto entry = open_parent(path);
  if (!entry) return named(std::move(entry).error(), "remove", path);
  if (::unlinkat(entry->parent.get(), entry->name.c_str(), 0) != 0)
    return system_error(errno, "remove", join_path(shown_, path));
  return {};
}

Result<void> OwnDirectory::remove(const std::string& path) const {
  auto entry = open_parent(path);
  if (!entry && entry.error().code == ENOENT) return {};
  if (!entry) return named(std::move(entry).error(), "remove", path);
  return remove_tree_at(entry->parent.get(), entry->name, join_path(shown_, path));
}

Result<std::vector<std::string>> OwnDirectory::list(const std::string& path) const {
  LAYERFS_ASSIGN(Fd fd, open(path, O_RDONLY | O_DIRECTORY));
  auto names = list_dir_at(fd.get());
  if (!names) return named(std::move(names).error(), "read directory", path);
  return names;
}

Result<void> OwnDirectory::sync(const std::string& path) const {
  LAYERFS_ASSIGN(Fd file, open(path, O_PATH));
  LAYERFS_ASSIGN(struct stat st, stat_fd(file.get()));
  LAYERFS_ASSIGN(file, open(path, O_RDONLY | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0)));
  if (::fsync(file.get()) != 0) return system_error(errno, "fsync", join_path(shown_, path));
  return {};
}

}  // namespace layerfs
