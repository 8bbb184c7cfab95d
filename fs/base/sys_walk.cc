// SPDX-License-Identifier: Apache-2.0
// The two walks of sys_file.h that must not be led astray: open_in_root and remove_tree.
//
// (1) open_in_root never leaves the root (open_resolved.h).
// (2) remove_tree never follows a symbolic link and never enters another mount, a bind mount of the same
//     file system included. It needs some thirty descriptors, whatever the depth.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "fs/base/open_resolved.h"
#include "fs/base/sys_file.h"

namespace layerfs {

namespace {

int openat_retry(int dir_fd, const char* name, int flags) {
  for (;;) {
    int fd = ::openat(dir_fd, name, flags | O_CLOEXEC);
    if (fd >= 0 || errno != EINTR) return fd;
  }
}

/// The mount that `fd` lies on; it differs across bind mounts too. statx(2) has it since Linux 5.8,
/// /proc/self/fdinfo since 3.15 (proc(5)).
Result<std::uint64_t> mount_id(int fd) {
  struct statx st;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 && (st.stx_mask & STATX_MNT_ID) != 0)
    return st.stx_mnt_id;
  LAYERFS_ASSIGN(std::string text, read_file("/proc/self/fdinfo/" + std::to_string(fd)));
  constexpr std::string_view kField = "mnt_id:";
  std::uint64_t id = 0;
  std::size_t at = text.find(kField);
  if (at != std::string::npos) at = text.find_first_not_of(" \t", at + kField.size());
  if (at == std::string::npos ||
      std::from_chars(text.data() + at, text.data() + text.size(), id).ec != std::errc())
    return unsupported_error("find mount", {}, "no mnt_id in /proc/self/fdinfo");
  return id;
}

/// Opens the directory `name` for reading and emptying it.
Result<Fd> open_to_empty(int dir_fd, const std::string& name, const std::string& shown) {
  Fd handle(openat_retry(dir_fd, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (!handle) return system_error(errno, "remove", shown);
  LAYERFS_ASSIGN(struct stat st, stat_fd(handle.get()));
  // A directory of an unpacked tree may lack its owner's bits, and an O_PATH descriptor has no fchmod(2).
  if ((st.st_mode & S_IRWXU) != S_IRWXU)
    ::chmod(("/proc/self/fd/" + std::to_string(handle.get())).c_str(), S_IRWXU);  // else the open says why
  Fd fd(openat_retry(handle.get(), ".", O_RDONLY | O_DIRECTORY));
  if (!fd) return system_error(errno, "remove", shown);
  return fd;
}

/// The tree that is being removed.
struct Removal {
  std::uint64_t mount;
  int top = -1;  ///< its uppermost directory, once that is open
  std::uint64_t moved = 0;
};

/// A directory that lies deeper has its turn as one of the uppermost: each level takes a descriptor.
constexpr int kDeepest = 32;

/// Moves a directory to the uppermost one, by a name that nothing has there. Errors: EINVAL, EXDEV, EACCES...
Result<void> move_to_top(Removal& removal, int dir_fd, const std::string& name) {
  for (;;) {
    const std::string free_name = "removed." + std::to_string(++removal.moved);
    auto moved = rename_at(dir_fd, name, removal.top, free_name, RENAME_NOREPLACE);
    if (moved) return {};
    if (moved.error().code != EEXIST) return moved;
  }
}

Result<void> remove_entry(Removal& removal, int dir_fd, const std::string& name, const std::string& shown,
                          int depth) {
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  const int code = errno;
  if (code != EISDIR && code != EPERM) return system_error(code, "remove", shown);
  // EPERM is what POSIX has for a directory; here it is a file that may not be removed.
  LAYERFS_ASSIGN(auto found, find_stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW));
  if (!found) return {};
  if (!S_ISDIR(found->st_mode)) return system_error(code, "remove", shown);
  {
    LAYERFS_ASSIGN(const Fd fd, open_to_empty(dir_fd, name, shown));
    LAYERFS_ASSIGN(const auto mount, mount_id(fd.get()));
    if (mount != removal.mount) return system_error(EBUSY, "remove", shown);
    // Where it can't be moved, another descriptor is what it costs.
    if (depth == kDeepest && move_to_top(removal, dir_fd, name)) return {};
    if (depth == 0) removal.top = fd.get();
    std::uint64_t moved_before = 0;
    do {  // the uppermost directory once more, as long as others were moved there
      moved_before = removal.moved;
      LAYERFS_ASSIGN(const auto names, list_dir_at(fd.get()));
      for (const auto& child : names)
        LAYERFS_TRY(remove_entry(removal, fd.get(), child, join_path(shown, child), depth + 1));
    } while (depth == 0 && removal.moved != moved_before);
  }
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return system_error(errno, "remove", shown);
  return {};
}

}  // namespace

Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) {
  auto opened = open_resolved(root_fd, path, flags, mode, Resolve::kInRoot);
  if (!opened) return system_error(opened.error().code, "open", path);
  return opened;
}

Result<void> remove_tree(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
  auto slash = trimmed.rfind('/');
  std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..")
    return invalid_error("remove", path, "not the name of an entry");
  auto dir = open_file(parent, O_PATH | O_DIRECTORY);
  if (!dir && dir.error().code == ENOENT) return {};
  if (!dir) return with_context(dir.error(), "remove", path);
  return remove_tree_at(dir->get(), name, path);
}

Result<void> remove_tree_at(int dir_fd, const std::string& name, const std::string& shown) {
  LAYERFS_ASSIGN(const auto mount, mount_id(dir_fd));
  Removal removal{mount};
  return remove_entry(removal, dir_fd, name, shown, 0);
}

}  // namespace layerfs
