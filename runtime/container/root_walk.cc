// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/root_walk.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs::container {

namespace {

constexpr int kLinkLimit = 40;  // as the kernel's (path_resolution(7))

std::deque<std::string> components(std::string_view path) {
  std::deque<std::string> list;
  while (!path.empty()) {
    std::size_t slash = path.find('/');
    std::string_view name = path.substr(0, slash);
    if (!name.empty() && name != ".") list.emplace_back(name);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return list;
}

/// Walks a path as chroot(2) would and makes what is missing.
class Walker {
 public:
  Walker(sys::Syscalls& calls, int root_fd) : calls_(calls), root_fd_(root_fd) {}

  Result<Fd> walk(const std::string& path, TargetKind kind) {
    std::deque<std::string> rest = components(path);
    int links = 0;
    while (!rest.empty()) {
      std::string name = std::move(rest.front());
      rest.pop_front();
      if (name == "..") {
        if (!stack_.empty()) stack_.pop_back();
        continue;
      }
      LAYERFS_ASSIGN(Fd fd, open_or_make_one(name, rest.empty() ? kind : TargetKind::kDirectory));
      LAYERFS_ASSIGN(struct stat st, calls_.stat_fd(fd.get()));
      if (S_ISLNK(st.st_mode)) {
        if (++links > kLinkLimit) return system_error(ELOOP, "open", path);
        LAYERFS_ASSIGN(std::string target, calls_.read_link_at(fd.get(), ""));
        if (target.starts_with('/')) stack_.clear();
        auto more = components(target);
        rest.insert(rest.begin(), more.begin(), more.end());
        continue;
      }
      if (!rest.empty() && !S_ISDIR(st.st_mode)) return system_error(ENOTDIR, "open", path);
      stack_.push_back(std::move(fd));
    }
    if (stack_.empty()) return calls_.open_in_root(root_fd_, "/", O_PATH | O_DIRECTORY, 0);
    return std::move(stack_.back());
  }

 private:
  int top() const { return stack_.empty() ? root_fd_ : stack_.back().get(); }

  Result<Fd> open_or_make_one(const std::string& name, TargetKind kind) {
    auto fd = calls_.open_at(top(), name, O_PATH | O_NOFOLLOW, 0);
    if (fd || fd.error().code != ENOENT) return fd;
    if (kind == TargetKind::kDirectory) {
      auto made = calls_.make_dir_at(top(), name, 0755);
      if (!made && made.error().code != EEXIST) return std::unexpected(made.error());
    } else {
      auto made = calls_.open_at(top(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
      if (!made && made.error().code != EEXIST) return std::unexpected(made.error());
    }
    return calls_.open_at(top(), name, O_PATH | O_NOFOLLOW, 0);
  }

  sys::Syscalls& calls_;
  int root_fd_;
  std::vector<Fd> stack_;  // directories from the root down, without the root
};

}  // namespace

Result<Fd> open_or_make(sys::Syscalls& calls, int root_fd, const std::string& path, TargetKind kind) {
  // One call where everything is there, which is nearly always.
  auto fd = calls.open_in_root(root_fd, path, O_PATH, 0);
  if (fd || fd.error().code != ENOENT) return fd;
  return Walker(calls, root_fd).walk(path, kind);
}

Result<ParentAndName> open_parent(sys::Syscalls& calls, int root_fd, const std::string& path) {
  std::size_t end = path.find_last_not_of('/');
  std::size_t slash = end == std::string::npos ? std::string::npos : path.rfind('/', end);
  std::string name = end == std::string::npos ? std::string() : path.substr(slash + 1, end - slash);
  if (slash == std::string::npos && end != std::string::npos) name = path.substr(0, end + 1);
  if (name.empty() || name == "." || name == "..")
    return invalid_error("path", path, "has no last component");
  std::string parent = slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
  LAYERFS_ASSIGN(Fd fd, open_or_make(calls, root_fd, parent, TargetKind::kDirectory));
  return ParentAndName{std::move(fd), std::move(name)};
}

Result<std::string> read_small_file(sys::Syscalls& calls, int root_fd, const std::string& path,
                                    std::size_t limit) {
  // O_PATH first: opening a fifo or a device of the image would wait, or do something.
  auto found = calls.open_in_root(root_fd, path, O_PATH, 0);
  if (!found) {
    if (found.error().code == ENOENT || found.error().code == ENOTDIR) return std::string();
    return std::unexpected(found.error());
  }
  LAYERFS_ASSIGN(struct stat st, calls.stat_fd(found->get()));
  if (!S_ISREG(st.st_mode)) return invalid_error("read", path, "is no regular file");
  LAYERFS_ASSIGN(Fd fd, calls.open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0));
  LAYERFS_ASSIGN(struct stat again, calls.stat_fd(fd.get()));
  if (!S_ISREG(again.st_mode)) return invalid_error("read", path, "is no regular file");
  auto text = calls.read_all(fd.get(), limit);
  if (!text) return with_context(text.error(), "", path);
  return text;
}

}  // namespace layerfs::container
