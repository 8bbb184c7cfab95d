// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/write_back.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "fs/base/sys_file.h"
#include "fs/mount/mount_table.h"
#include "runtime/run/running_file.h"
#include "runtime/sys/child_process.h"
#include "runtime/sys/clone.h"

namespace layerfs::run {

namespace {

constexpr int kPatience = 60'000;  // ms for what may be much to write
constexpr int kDying = 1'000;      // ms

/// The mount at that path of this process, and nothing that lies over it.
Result<void> write_back_at(const MountEntry& entry) {
  LAYERFS_ASSIGN(Fd directory, open_file(entry.path, O_RDONLY | O_DIRECTORY));
  LAYERFS_ASSIGN(struct stat attributes, stat_fd(directory.get()));
  if (attributes.st_dev != makedev(entry.device_major, entry.device_minor))
    return system_error(EBUSY, "reach the mount below", entry.path);
  if (::syncfs(directory.get()) != 0) return system_error(errno, "syncfs", entry.path);
  return {};
}

Result<void> join(int pid, const char* kind, std::uint64_t flag) {
  std::string path = fmt::format("/proc/{}/ns/{}", pid, kind);
  auto theirs = open_file(path, O_RDONLY);
  if (!theirs) return std::unexpected(theirs.error());
  LAYERFS_ASSIGN(Fd own, open_file(std::string("/proc/self/ns/") + kind, O_RDONLY));
  LAYERFS_ASSIGN(struct stat their_place, stat_fd(theirs->get()));
  LAYERFS_ASSIGN(struct stat own_place, stat_fd(own.get()));
  // One's own user namespace can't be joined (EINVAL, setns(2)).
  if (their_place.st_ino == own_place.st_ino && their_place.st_dev == own_place.st_dev) return {};
  return sys::join_namespace(theirs->get(), flag);
}

/// The child's exit code. A server that does not answer must not hold this process up: not even the end of a
/// killed child is waited for without a limit, as a request that such a server has read can't be interrupted.
/// Errors: ETIMEDOUT.
Result<int> wait_bounded(pid_t child) {
  auto pidfd = sys::open_pidfd(child);
  if (!pidfd) {
    ::kill(child, SIGKILL);
    return std::unexpected(pidfd.error());
  }
  pollfd end{pidfd->get(), POLLIN, 0};
  if (::poll(&end, 1, kPatience) <= 0) {
    ::kill(child, SIGKILL);
    if (::poll(&end, 1, kDying) > 0) LAYERFS_TRY(sys::wait_child(child));
    return system_error(ETIMEDOUT, "wait for process", std::to_string(child));
  }
  LAYERFS_ASSIGN(int status, sys::wait_child(child));
  return sys::exit_code(status);
}

/// In a process of its own, which ends in the other namespaces. The user namespace first: only with its
/// capabilities may the mount namespace be joined, and a FUSE mount be touched by who is in its user
/// namespace (allow_other, mount.fuse3(8)).
Result<void> write_back_in(int pid, const MountEntry& entry) {
  pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork");
  if (child == 0) {
    auto done = [&]() -> Result<void> {
      LAYERFS_TRY(sys::set_undumpable());
      LAYERFS_TRY(join(pid, "user", CLONE_NEWUSER));
      LAYERFS_TRY(join(pid, "mnt", CLONE_NEWNS));
      return write_back_at(entry);
    }();
    ::_exit(done ? 0 : done.error().code & 0xff);  // every errno is below 256
  }
  auto waited = wait_bounded(child);
  int code = waited ? *waited : waited.error().code;
  if (code != 0) return system_error(code, "write back the mount seen by process", std::to_string(pid));
  return {};
}

/// The root of a container's init.
std::optional<MountEntry> find_root(pid_t pid) {
  auto entries = mount::list_mounts(pid);
  if (!entries) return std::nullopt;
  for (MountEntry& entry : *entries)
    if (entry.path == "/") return std::move(entry);
  return std::nullopt;
}

}  // namespace

Result<void> write_back(const std::string& store_root, const std::string& id) {
  LAYERFS_ASSIGN(auto running, find_running(store_root, id));
  if (running && running->alive && running->state.pid > 0) {
    auto root = find_root(running->state.pid);
    return root ? write_back_in(running->state.pid, *root) : Result<void>();
  }
  std::string source = fmt::format("{}{}", mount::kSourcePrefix, id);
  LAYERFS_ASSIGN(auto here, mount::list_mounts());
  for (const MountEntry& entry : here)
    if (entry.source == source) return write_back_at(entry);
  if (auto held = mount::find_held(source)) return write_back_in(held->pid, held->entry);
  return {};
}

}  // namespace layerfs::run
