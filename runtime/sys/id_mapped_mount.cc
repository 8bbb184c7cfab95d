// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/id_mapped_mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::sys {

namespace {

constexpr unsigned kEmpty = 0x1000;      // AT_EMPTY_PATH (fcntl.h has it with _GNU_SOURCE only)
constexpr unsigned kWholeTree = 0x8000;  // AT_RECURSIVE

Result<void> write_map(const std::string& path, const std::string& map) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_WRONLY));
  if (auto written = write_full(fd.get(), std::as_bytes(std::span(map))); !written)
    return with_context(written.error(), "write", path);
  return {};
}

}  // namespace

Result<Fd> make_user_namespace(const std::string& uid_map, const std::string& gid_map) {
  // A namespace is made with a process; its descriptor keeps it once the process is gone.
  LAYERFS_ASSIGN(pid_t pid, clone_process(CLONE_NEWUSER));
  if (pid == 0) {
    if (!set_parent_death_signal(SIGKILL)) ::_exit(1);
    for (;;) ::pause();
  }
  ScopeExit end([&] {
    ::kill(pid, SIGKILL);
    if (auto reaped = wait_child(pid); !reaped) log_debug("{}", reaped.error().message());
  });
  std::string directory = "/proc/" + std::to_string(pid);
  LAYERFS_TRY(write_map(directory + "/gid_map", gid_map));
  LAYERFS_TRY(write_map(directory + "/uid_map", uid_map));
  return open_file(directory + "/ns/user", O_RDONLY);
}

Result<Fd> copy_mount(int source_fd, MountExtent extent) {
  unsigned flags = OPEN_TREE_CLONE | O_CLOEXEC | kEmpty | (extent == MountExtent::kTree ? kWholeTree : 0);
  long tree = ::syscall(SYS_open_tree, source_fd, "", flags);
  if (tree >= 0) return Fd(static_cast<int>(tree));
  int code = errno;
  if (code == ENOSYS) return unsupported_error("copy mount", "", "needs a kernel of 5.2 or newer");
  return system_error(code, "copy mount");
}

Result<Fd> make_mount(const std::string& type) {
  Fd context(static_cast<int>(::syscall(SYS_fsopen, type.c_str(), FSOPEN_CLOEXEC)));
  if (!context) return system_error(errno, "make mount", type);
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return system_error(errno, "make mount", type);
  Fd directory(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
  if (!directory) return system_error(errno, "make mount", type);
  return directory;
}

Result<Fd> make_device_mount(mode_t mode, std::uint64_t rdev, uid_t uid, gid_t gid) {
  // A file system of its own, that nobody else ever sees, outside every user namespace: elsewhere a node
  // opens nothing.
  LAYERFS_ASSIGN(Fd directory, make_mount("tmpfs"));
  if (::mknodat(directory.get(), "node", mode, rdev) != 0) return system_error(errno, "make device node");
  if (::fchownat(directory.get(), "node", uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error(errno, "set owner of device node");
  if (::fchmodat(directory.get(), "node", mode & 07777, 0) != 0)
    return system_error(errno, "set mode of device node");
  LAYERFS_ASSIGN(Fd node, open_at(directory.get(), "node", O_PATH | O_NOFOLLOW, 0));
  return copy_mount(node.get(), MountExtent::kTop);
}

Result<void> map_ids(int tree_fd, MountExtent extent, int namespace_fd) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<std::uint64_t>(namespace_fd);
  unsigned flags = kEmpty | (extent == MountExtent::kTree ? kWholeTree : 0);
  if (::syscall(SYS_mount_setattr, tree_fd, "", flags, &attributes, sizeof attributes) == 0) return {};
  int code = errno;
  if (code == ENOSYS) return unsupported_error("idmapped mount", "", "needs a kernel of 5.12 or newer");
  return system_error(code, "idmapped mount");
}

}  // namespace layerfs::sys
