// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/tmpfs_copy.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/sys_file.h"

namespace layerfs::container {

namespace {

Result<void> copy_bytes(int from, int to) {
  for (;;) {
    ssize_t sent = ::sendfile(to, from, nullptr, std::size_t{1} << 20);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return system_error(errno, "copy");
    if (sent == 0) return {};
  }
}

/// What the tmpfs or this kernel has no place for is left out.
Result<void> copy_xattrs(int from, int to, bool capabilities) {
  LAYERFS_ASSIGN(auto names, list_xattrs_fd(from));
  for (const auto& name : names) {
    if (name == "security.capability" && !capabilities) continue;
    LAYERFS_ASSIGN(auto value, find_xattr_fd(from, name));
    if (!value) continue;
    auto set = set_xattr_fd(to, name, *value);
    if (!set && set.error().code != EOPNOTSUPP && set.error().code != EPERM && set.error().code != EINVAL)
      return set;
  }
  return {};
}

/// Owner, mode, extended attributes and times, in this order: chown(2) takes set-id bits and capabilities,
/// and each of them sets the time of change. Both may be O_PATH descriptors, of links too.
Result<void> copy_attributes(const struct stat& st, int from, int to, bool capabilities) {
  mode_t mode = st.st_mode & 07777;
  if (::fchownat(to, "", st.st_uid, st.st_gid, AT_EMPTY_PATH) != 0) {
    if (errno != EPERM && errno != EINVAL) return system_error(errno, "chown");
    mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID);  // not of an owner that is not mapped here
  }
  std::string path = "/proc/self/fd/" + std::to_string(to);
  if (!S_ISLNK(st.st_mode) && ::chmod(path.c_str(), mode) != 0) return system_error(errno, "chmod");
  LAYERFS_TRY(copy_xattrs(from, to, capabilities));
  const std::array<timespec, 2> times{st.st_atim, st.st_mtim};
  if (::utimensat(AT_FDCWD, path.c_str(), times.data(), 0) != 0) return system_error(errno, "set times");
  return {};
}

bool has_mount_flag(int fd, unsigned long flag) {
  struct statvfs facts;
  return ::fstatvfs(fd, &facts) == 0 && (facts.f_flag & flag) != 0;
}

/// Depth first, with descriptors of one directory at a time: how deep a tree may be is the file system's
/// affair.
class TreeCopy {
 public:
  TreeCopy(int from, int to) : top_from_(from), top_to_(to) {}

  Result<void> run() {
    devices_ = has_mount_flag(top_to_, ST_NODEV) || !has_mount_flag(top_from_, ST_NODEV);
    capabilities_ = !has_mount_flag(top_to_, ST_NOSUID);
    LAYERFS_ASSIGN(struct stat st, stat_fd(top_from_));
    LAYERFS_TRY(open_top());
    LAYERFS_TRY(enter({}, st));
    while (!levels_.empty()) {
      if (auto done = step(); !done) return with_context(done.error(), "copy", path());
    }
    return {};
  }

 private:
  struct Level {
    std::string name;
    struct stat st;
    std::vector<std::string> names;  ///< still to be copied
  };

  std::string path() const {
    std::string text;
    for (const auto& level : levels_) text = join_path(text, level.name);
    return text;
  }

  Result<void> open_top() {
    LAYERFS_ASSIGN(from_, open_at(top_from_, ".", O_RDONLY | O_DIRECTORY));
    LAYERFS_ASSIGN(to_, open_at(top_to_, ".", O_RDONLY | O_DIRECTORY));
    return {};
  }

  /// `from_` and `to_` are the directory's by now.
  Result<void> enter(std::string name, const struct stat& st) {
    LAYERFS_ASSIGN(auto names, list_dir_at(from_.get()));
    levels_.push_back({std::move(name), st, std::move(names)});
    return {};
  }

  Result<void> step() {
    auto& names = levels_.back().names;
    if (names.empty()) return leave();
    std::string name = std::move(names.back());
    names.pop_back();
    auto copied = copy_entry(name);
    if (!copied) return with_context(copied.error(), "", name);
    return {};
  }

  Result<void> leave() {
    LAYERFS_TRY(copy_attributes(levels_.back().st, from_.get(), to_.get(), capabilities_));
    levels_.pop_back();
    if (levels_.empty()) return {};
    // By its own descriptor: ".." would lead into the tmpfs that covers it.
    if (levels_.size() == 1) return open_top();
    LAYERFS_ASSIGN(from_, open_at(from_.get(), "..", O_RDONLY | O_DIRECTORY));
    LAYERFS_ASSIGN(to_, open_at(to_.get(), "..", O_RDONLY | O_DIRECTORY));
    // Whoever shares the directory may have moved it meanwhile, out of the container's root even.
    LAYERFS_ASSIGN(struct stat st, stat_fd(from_.get()));
    const struct stat& was = levels_.back().st;
    if (st.st_dev != was.st_dev || st.st_ino != was.st_ino) return system_error(ESTALE, "");
    return {};
  }

  Result<void> copy_entry(const std::string& name) {
    LAYERFS_ASSIGN(auto found, find_stat_at(from_.get(), name, AT_SYMLINK_NOFOLLOW));
    if (!found) return {};
    const struct stat& st = *found;
    if (S_ISDIR(st.st_mode)) return copy_directory(name);
    if (S_ISREG(st.st_mode)) return copy_file(name);
    if (S_ISLNK(st.st_mode)) {
      LAYERFS_TRY(copy_link(name));
    } else {
      bool is_device = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode);
      if (is_device && !devices_) return {};
      if (::mknodat(to_.get(), name.c_str(), st.st_mode & (S_IFMT | 0700), st.st_rdev) != 0) {
        // The root of a user namespace makes no devices, and could not open this one either.
        if (is_device && errno == EPERM) return {};
        return system_error(errno, "create node");
      }
    }
    LAYERFS_ASSIGN(Fd from, open_at(from_.get(), name, O_PATH | O_NOFOLLOW));
    LAYERFS_ASSIGN(Fd to, open_at(to_.get(), name, O_PATH | O_NOFOLLOW));
    return copy_attributes(st, from.get(), to.get(), capabilities_);
  }

  Result<void> copy_directory(const std::string& name) {
    if (::mkdirat(to_.get(), name.c_str(), 0700) != 0) return system_error(errno, "create directory");
    LAYERFS_ASSIGN(Fd from, open_at(from_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LAYERFS_ASSIGN(to_, open_at(to_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    from_ = std::move(from);
    LAYERFS_ASSIGN(struct stat st, stat_fd(from_.get()));
    return enter(name, st);
  }

  Result<void> copy_file(const std::string& name) {
    LAYERFS_ASSIGN(Fd from, open_at(from_.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    LAYERFS_ASSIGN(struct stat st, stat_fd(from.get()));
    if (!S_ISREG(st.st_mode)) return system_error(ESTALE, "");
    LAYERFS_ASSIGN(Fd to, open_at(to_.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    LAYERFS_TRY(copy_bytes(from.get(), to.get()));
    return copy_attributes(st, from.get(), to.get(), capabilities_);
  }

  Result<void> copy_link(const std::string& name) {
    std::array<char, 4096> target{};
    ssize_t size = ::readlinkat(from_.get(), name.c_str(), target.data(), target.size() - 1);
    if (size < 0) return system_error(errno, "read link");
    if (::symlinkat(target.data(), to_.get(), name.c_str()) != 0) return system_error(errno, "create link");
    return {};
  }

  int top_from_;
  int top_to_;
  bool devices_ = false;
  bool capabilities_ = false;
  Fd from_;
  Fd to_;
  std::vector<Level> levels_;
};

}  // namespace

Result<void> copy_into_tmpfs(int from_fd, int to_fd) { return TreeCopy(from_fd, to_fd).run(); }

}  // namespace layerfs::container
