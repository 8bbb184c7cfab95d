// SPDX-License-Identifier: Apache-2.0
// LinuxSyscalls: mounts.
//
// A bind mount is cloned, given its attributes while nobody can see it, and then attached (open_tree(2),
// mount_setattr(2), move_mount(2)): there is no moment in which it is writable, and no path is looked up
// twice. Kernels before 5.12 take mount(2) and a remount, by the target's path.
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
// linux/mount.h and sys/mount.h of glibc 2.36 define the same names: only one can be included.
extern "C" int mount(const char* source, const char* target, const char* type, unsigned long flags,
                     const void* data);
extern "C" int umount2(const char* target, int flags);

#include "fs/base/mount_info.h"
#include "fs/base/open_resolved.h"
#include "fs/base/sys_file.h"
#include "runtime/sys/id_mapped_mount.h"
#include "runtime/sys/mount_top.h"
#include "runtime/sys/syscalls.h"

namespace layerfs::sys {

namespace {

constexpr unsigned kEmptyPath = 0x1000;  // AT_EMPTY_PATH (fcntl.h has it with _GNU_SOURCE only)
constexpr unsigned kRecursive = 0x8000;  // AT_RECURSIVE
constexpr int kDetach = 2;               // MNT_DETACH (umount2(2))

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

bool is_absent(int code) { return code == ENOSYS; }

/// Returns 0 or the errno.
int set_attributes(int fd, bool recursive, const mount_attr& attributes) {
  unsigned flags = kEmptyPath | (recursive ? kRecursive : 0);
  long result = ::syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof attributes);
  return result == 0 ? 0 : errno;
}

/// Access times are one field: setting one of its values clears the others first.
mount_attr make_attributes(std::uint64_t set, std::uint64_t clear) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  if ((set & MOUNT_ATTR__ATIME) != 0) attributes.attr_clr |= MOUNT_ATTR__ATIME;
  return attributes;
}

Result<void> apply(int fd, const BindAttributes& attributes) {
  if ((attributes.recursive_set | attributes.recursive_clear) != 0) {
    int code =
        set_attributes(fd, true, make_attributes(attributes.recursive_set, attributes.recursive_clear));
    if (code != 0) return system_error(code, "set mount attributes");
  }
  if ((attributes.set | attributes.clear) != 0) {
    int code = set_attributes(fd, false, make_attributes(attributes.set, attributes.clear));
    if (code != 0) return system_error(code, "set mount attributes");
  }
  for (unsigned long flags : attributes.propagation) {
    mount_attr propagation{};
    propagation.propagation = flags & ~static_cast<unsigned long>(MS_REC);
    if (int code = set_attributes(fd, (flags & MS_REC) != 0, propagation); code != 0)
      return system_error(code, "set mount propagation");
  }
  return {};
}

Result<void> attach(int tree_fd, int target_fd) {
  long moved = ::syscall(SYS_move_mount, tree_fd, "", target_fd, "",
                         MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  if (moved != 0) return system_error(errno, "attach mount");
  return {};
}

/// MS_* of MOUNT_ATTR_*, for the remount of old kernels: a remount replaces every flag of the mount.
unsigned long remount_flags(const BindAttributes& attributes, unsigned long now) {
  struct Pair {
    std::uint64_t attribute;
    unsigned long flag;
  };
  constexpr Pair kPairs[] = {{MOUNT_ATTR_RDONLY, MS_RDONLY},   {MOUNT_ATTR_NOSUID, MS_NOSUID},
                             {MOUNT_ATTR_NODEV, MS_NODEV},     {MOUNT_ATTR_NOEXEC, MS_NOEXEC},
                             {MOUNT_ATTR_NOATIME, MS_NOATIME}, {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME}};
  unsigned long flags = now;
  for (const auto& pair : kPairs) {
    if ((attributes.clear & pair.attribute) != 0) flags &= ~pair.flag;
    if ((attributes.set & pair.attribute) != 0) flags |= pair.flag;
  }
  return flags;
}

Result<void> bind_by_path(LinuxSyscalls& calls, int target_fd, int source_fd,
                          const BindAttributes& attributes) {
  if ((attributes.recursive_set | attributes.recursive_clear) != 0)
    return unsupported_error("recursive mount attributes", "", "need a kernel of 5.12 or newer");
  std::string target = fd_path(target_fd);
  unsigned long recursive = attributes.recursive ? static_cast<unsigned long>(MS_REC) : 0;
  if (::mount(fd_path(source_fd).c_str(), target.c_str(), nullptr, MS_BIND | recursive, nullptr) != 0)
    return system_error(errno, "bind");
  LAYERFS_ASSIGN(std::string path, calls.read_link_at(AT_FDCWD, target));
  LAYERFS_ASSIGN(Fd top, open_file(path, O_PATH | O_NOFOLLOW));
  std::string top_path = fd_path(top.get());
  if ((attributes.set | attributes.clear) != 0) {
    LAYERFS_ASSIGN(FsFacts facts, calls.fs_facts(top.get()));
    unsigned long flags = MS_REMOUNT | MS_BIND | remount_flags(attributes, facts.flags);
    if (::mount(nullptr, top_path.c_str(), nullptr, flags, nullptr) != 0)
      return system_error(errno, "remount");
  }
  for (unsigned long flags : attributes.propagation)
    if (::mount(nullptr, top_path.c_str(), nullptr, flags, nullptr) != 0)
      return system_error(errno, "set mount propagation");
  return {};
}

/// A directory, and the mount through which it is seen.
struct MountPlace {
  std::uint64_t mount = 0;
  std::uint64_t device = 0;
  std::uint64_t ino = 0;
  bool operator==(const MountPlace&) const = default;
};

Result<MountPlace> mount_place(int fd) {
  struct statx found{};
  constexpr unsigned kMountId = 0x1000;  // STATX_MNT_ID, since Linux 5.8 (statx(2))
  if (::syscall(SYS_statx, fd, "", kEmptyPath, STATX_INO | kMountId, &found) != 0)
    return system_error(errno, "find mount");
  if ((found.stx_mask & kMountId) == 0)
    return unsupported_error("find mount", "", "needs a kernel of 5.8 or newer");
  return MountPlace{found.stx_mnt_id, std::uint64_t{found.stx_dev_major} << 32 | found.stx_dev_minor,
                    found.stx_ino};
}

}  // namespace

Result<std::uint64_t> mount_id(const std::string& path) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_PATH));
  LAYERFS_ASSIGN(MountPlace place, mount_place(fd.get()));
  return place.mount;
}

Result<bool> detach_above(const std::string& path, std::uint64_t base) {
  LAYERFS_ASSIGN(std::string text, read_file("/proc/self/mountinfo"));
  std::vector<std::uint64_t> chain{base};
  for (const MountEntry& entry : parse_mount_info(text))  // in the order of mounting
    if (entry.parent == chain.back() && entry.path == path) chain.push_back(entry.id);
  LAYERFS_ASSIGN(Fd root, open_file("/", O_PATH | O_DIRECTORY));
  for (std::size_t i = chain.size() - 1; i > 0; --i) {
    // Only the one that is seen at the path can be taken away: it must be the one that was meant.
    auto top = open_resolved(root.get(), path.substr(1), O_PATH | O_DIRECTORY, 0, Resolve::kNoLinks);
    if (!top) return with_context(top.error(), "unmount", path);
    LAYERFS_ASSIGN(MountPlace place, mount_place(top->get()));
    if (place.mount != chain[i]) return system_error(EBUSY, "unmount", path);
    if (::umount2(fd_path(top->get()).c_str(), kDetach) != 0) return system_error(errno, "unmount", path);
  }
  return chain.size() > 1;
}

Result<void> LinuxSyscalls::mount_on(int target_fd, const MountCall& call) {
  const char* data = call.data.empty() ? nullptr : call.data.c_str();
  if (::mount(call.source.c_str(), fd_path(target_fd).c_str(), call.type.c_str(), call.flags, data) != 0)
    return system_error(errno, "");
  return {};
}

Result<Fd> LinuxSyscalls::make_procfs() { return make_mount("proc"); }

Result<void> LinuxSyscalls::bind_on(int target_fd, int source_fd, const BindAttributes& attributes) {
  unsigned flags = OPEN_TREE_CLONE | O_CLOEXEC | kEmptyPath | (attributes.recursive ? kRecursive : 0);
  long raw = ::syscall(SYS_open_tree, source_fd, "", flags);
  if (raw < 0) {
    int code = errno;
    if (is_absent(code)) return bind_by_path(*this, target_fd, source_fd, attributes);
    return system_error(code, "copy mount");
  }
  Fd tree(static_cast<int>(raw));
  auto applied = apply(tree.get(), attributes);
  if (!applied && is_absent(applied.error().code))
    return bind_by_path(*this, target_fd, source_fd, attributes);
  LAYERFS_TRY(applied);
  return attach(tree.get(), target_fd);
}

Result<void> LinuxSyscalls::attach_on(int target_fd, int tree_fd, const BindAttributes& attributes) {
  LAYERFS_TRY(apply(tree_fd, attributes));
  return attach(tree_fd, target_fd);
}

Result<void> LinuxSyscalls::change_mount(int fd, const BindAttributes& attributes) {
  auto applied = apply(fd, attributes);
  if (applied || !is_absent(applied.error().code)) return applied;
  std::string path = fd_path(fd);
  if ((attributes.set | attributes.clear) != 0) {
    LAYERFS_ASSIGN(FsFacts facts, fs_facts(fd));
    unsigned long flags = MS_REMOUNT | MS_BIND | remount_flags(attributes, facts.flags);
    if (::mount(nullptr, path.c_str(), nullptr, flags, nullptr) != 0) return system_error(errno, "remount");
  }
  for (unsigned long flags : attributes.propagation)
    if (::mount(nullptr, path.c_str(), nullptr, flags, nullptr) != 0)
      return system_error(errno, "set mount propagation");
  return {};
}

Result<void> LinuxSyscalls::isolate(int fd) {
  // Only a mount's root names it: the last directory on the way up that is still on it.
  LAYERFS_ASSIGN(Fd top, open_at(fd, ".", O_PATH | O_DIRECTORY, 0));
  LAYERFS_ASSIGN(MountPlace place, mount_place(top.get()));
  for (;;) {
    LAYERFS_ASSIGN(Fd above, open_at(top.get(), "..", O_PATH | O_DIRECTORY, 0));
    LAYERFS_ASSIGN(MountPlace next, mount_place(above.get()));
    if (next.mount != place.mount || next == place) break;
    top = std::move(above);
    place = next;
  }
  if (::mount(nullptr, fd_path(top.get()).c_str(), nullptr, MS_PRIVATE, nullptr) != 0)
    return system_error(errno, "make the mount private");
  return {};
}

Result<void> LinuxSyscalls::set_propagation(const std::string& path, unsigned long flags) {
  if (::mount(nullptr, path.c_str(), nullptr, flags, nullptr) != 0) return system_error(errno, "");
  return {};
}

Result<void> LinuxSyscalls::pivot_to_current() {
  // pivot_root(2), "pivot_root(".", ".")": old and new root are stacked at '/', and the old one, now on top
  // of the working directory, is let go.
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return system_error(errno, "pivot_root");
  if (::umount2(".", kDetach) != 0) return system_error(errno, "unmount the old root");
  return change_dir("/");
}

Result<void> LinuxSyscalls::chroot_to_current() {
  if (::chroot(".") != 0) return system_error(errno, "chroot");
  return change_dir("/");
}

Result<void> LinuxSyscalls::move_to_root() {
  if (::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0) return system_error(errno, "move mount to '/'");
  return chroot_to_current();
}

}  // namespace layerfs::sys
