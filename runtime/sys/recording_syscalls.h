// SPDX-License-Identifier: Apache-2.0
// RecordingSyscalls: a Syscalls that changes nothing and writes every change down as a line, so that tests
// see what a container's init would do, and in which order. Reads are answered from a small tree that the
// test fills.
//
// (1) A path that the test did not name does not exist; what is made exists from then on.
// (2) Descriptors are real (of /dev/null), so that owning and closing them is real too.
// (3) One thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/sys/syscalls.h"

namespace layerfs::sys {

class RecordingSyscalls : public Syscalls {
 public:
  struct Entry {
    mode_t mode = S_IFDIR | 0755;
    std::uint64_t rdev = 0;
    std::string content;  ///< of a file, or the target of a link
    long fs_type = 0;     ///< 0: what is above it says
  };

  /// By path: the host's as "/dev/fuse", the container's with its root before it, as "/run/root/proc".
  std::map<std::string, Entry> entries;
  /// errno for a line of the log that begins so: "mount proc" -> EPERM. The line is written down all the
  /// same.
  std::map<std::string, int> failures;
  std::vector<std::string> log;
  std::string unreachable;  ///< what begins so gives EACCES; empty: nothing does

  /// Adds a directory with everything above it.
  void add_dir(const std::string& path, long fs_type = 0);
  void add(const std::string& path, Entry entry);

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

 private:
  Result<void> record(const std::string& line);
  Result<Fd> open_named(const std::string& path, int flags);
  /// Follows links inside `root`, as the kernel would; the last one only where `flags` allow it.
  Result<std::string> resolve(const std::string& root, const std::string& path, int flags);
  const std::string& name_of(int fd) const;

  std::map<int, std::string> names_;
};

}  // namespace layerfs::sys
