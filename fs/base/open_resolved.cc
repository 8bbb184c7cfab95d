// SPDX-License-Identifier: Apache-2.0
#include "fs/base/open_resolved.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "fs/base/sys_file.h"

namespace layerfs {

namespace {

constexpr int kMaxLinks = 40;    // as the kernel: path_resolution(7)
constexpr int kMaxRetries = 32;  // of openat2 that lost a race with a rename

/// The walk without openat2(2). The kernel never follows a symbolic link for it: links are read here.
class ComponentWalk {
 public:
  ComponentWalk(int dir_fd, std::string path, Resolve resolve)
      : dir_fd_(dir_fd), rest_(std::move(path)), resolve_(resolve) {}

  Result<Fd> open(int flags, mode_t mode) {
    if (resolve_ == Resolve::kNoLinks && rest_.starts_with('/')) return errno_error(EXDEV);
    for (;;) {
      std::size_t begin = rest_.find_first_not_of('/');
      if (begin == std::string::npos) return open_component(".", flags & ~O_CREAT, mode);
      std::size_t end = rest_.find('/', begin);
      std::string name = rest_.substr(begin, end == std::string::npos ? end : end - begin);
      rest_ = end == std::string::npos ? std::string() : rest_.substr(end);
      if (name == ".") continue;
      if (name == "..") {
        if (resolve_ == Resolve::kNoLinks) return errno_error(EXDEV);
        if (!stack_.empty()) stack_.pop_back();
        continue;
      }
      if (rest_.empty()) {
        LAYERFS_ASSIGN(Fd fd, open_last(name, flags, mode));
        if (fd) return fd;
      }
      LAYERFS_TRY(enter(name));
    }
  }

 private:
  int top() const { return stack_.empty() ? dir_fd_ : stack_.back().get(); }

  Result<Fd> open_component(const std::string& name, int flags, mode_t mode) const {
    for (;;) {
      Fd fd(::openat(top(), name.c_str(), flags | O_CLOEXEC, mode));
      if (fd) return fd;
      if (errno != EINTR) return errno_error(errno);
    }
  }

  /// Opens the last component; an empty Fd where enter() has to look at it, because it is a symbolic link or
  /// may be one.
  Result<Fd> open_last(const std::string& name, int flags, mode_t mode) const {
    auto fd = open_component(name, flags | O_NOFOLLOW, mode);
    if (resolve_ == Resolve::kInRoot && (flags & O_NOFOLLOW) != 0) return fd;
    if (!fd) {
      // A symbolic link is ELOOP, but ENOTDIR with O_DIRECTORY; so is a file (open(2)).
      if (fd.error().code == ELOOP || fd.error().code == ENOTDIR) return Fd();
      return fd;
    }
    // O_PATH with O_NOFOLLOW opens the link itself.
    if ((flags & O_PATH) != 0) {
      LAYERFS_ASSIGN(struct stat st, stat_fd(fd->get()));
      if (S_ISLNK(st.st_mode)) return Fd();
    }
    return fd;
  }

  /// Goes into the directory `name`, or puts a symbolic link's target before the rest of the path.
  Result<void> enter(const std::string& name) {
    LAYERFS_ASSIGN(Fd component, open_component(name, O_PATH | O_NOFOLLOW, 0));
    LAYERFS_ASSIGN(struct stat st, stat_fd(component.get()));
    if (S_ISLNK(st.st_mode)) {
      if (resolve_ == Resolve::kNoLinks || ++links_ > kMaxLinks) return errno_error(ELOOP);
      std::string target(static_cast<std::size_t>(st.st_size) + 4096, '\0');
      ssize_t size = ::readlinkat(component.get(), "", target.data(), target.size());
      if (size < 0) return errno_error(errno);
      target.resize(static_cast<std::size_t>(size));
      if (target.starts_with('/')) stack_.clear();
      rest_ = target + rest_;
      return {};
    }
    if (!S_ISDIR(st.st_mode)) return errno_error(ENOTDIR);
    stack_.push_back(std::move(component));
    return {};
  }

  int dir_fd_;
  std::string rest_;
  Resolve resolve_;
  std::vector<Fd> stack_;  // the directories from `dir_fd` down; ".." pops, `dir_fd` itself never
  int links_ = 0;
};

}  // namespace

Result<Fd> open_resolved(int dir_fd, const std::string& path, int flags, mode_t mode, Resolve resolve) {
  bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  // RESOLVE_NO_SYMLINKS alone would open the link itself for O_PATH | O_NOFOLLOW.
  if (resolve == Resolve::kNoLinks) flags &= ~O_NOFOLLOW;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = creates ? mode : 0;
  how.resolve = RESOLVE_NO_MAGICLINKS |
                (resolve == Resolve::kInRoot ? RESOLVE_IN_ROOT : RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
  for (int attempt = 0; attempt < kMaxRetries;) {
    long fd = ::syscall(SYS_openat2, dir_fd, path.empty() ? "." : path.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno == EINTR) continue;
    // EAGAIN: a rename raced with ".." (openat2(2)); whoever renames for ever gets the other walk.
    if (errno == EAGAIN) {
      ++attempt;
      continue;
    }
    // ENOSYS: before Linux 5.6; EPERM: what older seccomp profiles of containers answer instead.
    if (errno == ENOSYS || errno == EPERM) break;
    return errno_error(errno);
  }
  return ComponentWalk(dir_fd, path, resolve).open(flags, mode);
}

}  // namespace layerfs
