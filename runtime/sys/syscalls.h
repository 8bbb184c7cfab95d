// SPDX-License-Identifier: Apache-2.0
// Syscalls: what a container's init asks of the kernel, one method a call. LinuxSyscalls does it,
// RecordingSyscalls (recording_syscalls.h) writes it down for tests of order.
//
// (1) Targets of mounts are descriptors, never paths: what was checked is what is mounted on.
// (2) Whatever is opened below a root is resolved inside that root (openat2(2), RESOLVE_IN_ROOT).
// (3) One thread: the init is single-threaded, and unshare(2), setns(2) and capset(2) are per thread.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/result.h"

namespace layerfs::sys {

struct MountCall {
  std::string source;
  std::string type;
  unsigned long flags = 0;  ///< MS_* of mount(2)
  std::string data;
};

/// mount_setattr(2) on a new bind mount, before it can be seen.
struct BindAttributes {
  bool recursive = false;  ///< bind the mounts below too
  std::uint64_t set = 0;   ///< MOUNT_ATTR_* of the top
  std::uint64_t clear = 0;
  std::uint64_t recursive_set = 0;  ///< ... of every mount of the tree
  std::uint64_t recursive_clear = 0;
  std::vector<unsigned long> propagation;  ///< MS_PRIVATE | MS_REC..., in order
};

struct FsFacts {
  long type = 0;            ///< f_type of statfs(2): PROC_SUPER_MAGIC...
  unsigned long flags = 0;  ///< the mount's flags, as MS_*
};

class Syscalls {
 public:
  virtual ~Syscalls() = default;

  // Files. Errors: those of the call, with the path named.
  virtual Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) = 0;
  /// Opens a path of the host.
  virtual Result<Fd> open_path(const std::string& path, int flags) = 0;
  virtual Result<Fd> open_at(int dir_fd, const std::string& name, int flags, mode_t mode) = 0;
  virtual Result<void> make_dir_at(int dir_fd, const std::string& name, mode_t mode) = 0;
  virtual Result<void> make_node_at(int dir_fd, const std::string& name, mode_t mode, std::uint64_t rdev) = 0;
  virtual Result<void> make_link_at(const std::string& target, int dir_fd, const std::string& name) = 0;
  virtual Result<std::string> read_link_at(int dir_fd, const std::string& name) = 0;
  /// Owner and permission bits of a node that make_node_at made (mknod(2) is subject to the umask).
  virtual Result<void> set_owner_at(int dir_fd, const std::string& name, uid_t uid, gid_t gid,
                                    mode_t mode) = 0;
  /// An extended attribute of what `fd` (O_PATH too) names. Errors: ENOTSUP.
  virtual Result<void> set_xattr(int fd, const std::string& name, std::string_view value) = 0;
  virtual Result<struct stat> stat_fd(int fd) = 0;
  virtual Result<FsFacts> fs_facts(int fd) = 0;
  virtual Result<void> write_all(int fd, std::string_view text) = 0;
  virtual Result<std::string> read_all(int fd, std::size_t limit) = 0;

  // Mounts.
  /// A new mount of a file system on what `target_fd` names.
  virtual Result<void> mount_on(int target_fd, const MountCall& call) = 0;
  /// A procfs of this process's PID namespace that is mounted nowhere. Errors: ENOSYS (before Linux 5.2),
  /// EPERM.
  virtual Result<Fd> make_procfs() = 0;
  /// A copy of the mount (tree) at `source_fd`, with its attributes set before it appears on `target_fd`.
  virtual Result<void> bind_on(int target_fd, int source_fd, const BindAttributes& attributes) = 0;
  /// Puts a mount that is nowhere yet (`tree_fd`, of open_tree(2)) on `target_fd`, with its attributes set
  /// before.
  virtual Result<void> attach_on(int target_fd, int tree_fd, const BindAttributes& attributes) = 0;
  /// Changes the mount whose root `fd` is.
  virtual Result<void> change_mount(int fd, const BindAttributes& attributes) = 0;
  /// Makes the mount on which the directory `fd` lies private: what is mounted below shows nowhere else.
  virtual Result<void> isolate(int fd) = 0;
  /// mount(2) with MS_PRIVATE, MS_SLAVE... on a path of this mount namespace: "/" only.
  virtual Result<void> set_propagation(const std::string& path, unsigned long flags) = 0;
  /// Makes the working directory the root and lets go of the old one.
  virtual Result<void> pivot_to_current() = 0;
  /// Without pivot_root(2), for a root on the initial ramfs: moves the mount onto '/' and chroots.
  virtual Result<void> move_to_root() = 0;
  /// Makes the working directory the root of this process alone.
  virtual Result<void> chroot_to_current() = 0;
  virtual Result<void> change_dir_fd(int fd) = 0;
  virtual Result<void> change_dir(const std::string& path) = 0;

  // Namespaces and the rest.
  virtual Result<void> unshare(int flags) = 0;
  virtual Result<void> set_hostname(const std::string& name) = 0;
  virtual Result<void> set_domainname(const std::string& name) = 0;
  virtual Result<void> loopback_up() = 0;
  virtual Result<void> new_session() = 0;
  virtual Result<void> set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard) = 0;
};

class LinuxSyscalls : public Syscalls {
 public:
  Result<Fd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) override;
  Result<Fd> open_path(const std::string& path, int flags) override;
  Result<Fd> open_at(int dir_fd, const std::string& name, int flags, mode_t mode) override;
  Result<void> make_dir_at(int dir_fd, const std::string& name, mode_t mode) override;
  Result<void> make_node_at(int dir_fd, const std::string& name, mode_t mode, std::uint64_t rdev) override;
  Result<void> make_link_at(const std::string& target, int dir_fd, const std::string& name) override;
  Result<std::string> read_link_at(int dir_fd, const std::string& name) override;
  Result<void> set_owner_at(int dir_fd, const std::string& name, uid_t uid, gid_t gid, mode_t mode) override;
  Result<void> set_xattr(int fd, const std::string& name, std::string_view value) override;
  Result<struct stat> stat_fd(int fd) override;
  Result<FsFacts> fs_facts(int fd) override;
  Result<void> write_all(int fd, std::string_view text) override;
  Result<std::string> read_all(int fd, std::size_t limit) override;
  Result<void> mount_on(int target_fd, const MountCall& call) override;
  Result<Fd> make_procfs() override;
  Result<void> bind_on(int target_fd, int source_fd, const BindAttributes& attributes) override;
  Result<void> attach_on(int target_fd, int tree_fd, const BindAttributes& attributes) override;
  Result<void> change_mount(int fd, const BindAttributes& attributes) override;
  Result<void> isolate(int fd) override;
  Result<void> set_propagation(const std::string& path, unsigned long flags) override;
  Result<void> pivot_to_current() override;
  Result<void> move_to_root() override;
  Result<void> chroot_to_current() override;
  Result<void> change_dir_fd(int fd) override;
  Result<void> change_dir(const std::string& path) override;
  Result<void> unshare(int flags) override;
  Result<void> set_hostname(const std::string& name) override;
  Result<void> set_domainname(const std::string& name) override;
  Result<void> loopback_up() override;
  Result<void> new_session() override;
  Result<void> set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard) override;
};

}  // namespace layerfs::sys
