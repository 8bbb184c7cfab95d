// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "fs/base/log.h"
#include "fs/base/random.h"
#include "fs/base/sys_file.h"
#include "fs/fuse/device.h"
#include "fs/mount/container_dir.h"
#include "fs/mount/keeper.h"
#include "fs/mount/mount_table.h"
#include "fs/mount/ready_pipe.h"
#include "fs/mount/server_process.h"

namespace layerfs::mount {

constexpr std::chrono::milliseconds kLockPause{5};
constexpr std::chrono::milliseconds kFirstLook{1000};  // and the next ones

namespace {

/// A request that means the same in a process with another working directory, and in every server of the
/// mount.
Result<MountRequest> absolute_request(MountRequest request) {
  LAYERFS_ASSIGN(request.store_root, absolute_path(request.store_root));
  if (!request.upper_dir.empty()) {
    LAYERFS_ASSIGN(request.upper_dir, absolute_path(request.upper_dir));
  }
  request.fuse.connection = new_connection();
  return request;
}

Result<std::string> checked_mountpoint(const std::string& mountpoint) {
  // What mountinfo shows, and what stays right after chdir("/").
  auto real = real_path(mountpoint);
  if (!real) return with_context(real.error(), "mount");
  LAYERFS_ASSIGN(auto directory, open_file(*real, O_PATH | O_CLOEXEC));
  LAYERFS_ASSIGN(auto attributes, stat_fd(directory.get()));
  if (!S_ISDIR(attributes.st_mode)) return system_error(ENOTDIR, "mount", mountpoint);
  return real;
}

/// Leaves terminal, working directory and standard streams of the command behind. The log goes to the upper's
/// `log`, if there is one.
Result<void> enter_background(const MountRequest& request) {
  if (::setsid() < 0) return system_error(errno, "setsid");
  if (::chdir("/") != 0) return system_error(errno, "chdir", "/");
  LAYERFS_ASSIGN(auto null, open_file("/dev/null", O_RDWR));
  Fd log;
  if (!request.upper_dir.empty()) {
    LAYERFS_ASSIGN(log, open_container_log(request.upper_dir, "log"));
  }
  const std::array<int, 3> sources{null.get(), null.get(), log ? log.get() : null.get()};
  for (int target = 0; target < 3; ++target)
    if (::dup2(sources[static_cast<std::size_t>(target)], target) < 0) return system_error(errno, "dup2");
  return {};
}

/// Gives up every descriptor of the command but the standard ones and `ready`, so that the server keeps
/// nobody's pipe open. Returns `ready`, at another number.
Result<Fd> keep_only(Fd ready) {
  constexpr int kKept = STDERR_FILENO + 1;
  if (ready.get() != kKept) {
    if (::dup3(ready.get(), kKept, O_CLOEXEC) < 0) return system_error(errno, "dup");
    ready = Fd(kKept);
  }
  if (::close_range(kKept + 1, ~0U, 0) != 0 && errno != ENOSYS) return system_error(errno, "close_range");
  return ready;
}

Result<Served> serve_mount(const MountRequest& request, const std::string& mountpoint, Fd ready) {
  if (request.fuse.outlives_server) return keep_mount(request, mountpoint, std::move(ready));
  return run_server(request, mountpoint, std::move(ready), Fd());
}

[[noreturn]] void background_main(const MountRequest& request, const std::string& mountpoint, Fd inherited) {
  int status = 1;
  try {
    prepare_server_process();
    auto kept = keep_only(std::move(inherited));
    if (!kept) ::_exit(status);
    Fd ready = std::move(*kept);
    if (auto entered = enter_background(request); !entered) {
      send_outcome(ready, entered);
    } else {
      status = log_served(serve_mount(request, mountpoint, std::move(ready)));
    }
  } catch (const std::exception& exception) {
    log_error("{}", exception.what());
  }
  ::_exit(status);  // not exit(): what the parent registered with atexit() is the parent's
}

}  // namespace

std::uint64_t new_connection() {
  return random_id() | 1;  // odd: no request's number, which are even, becomes 0
}

Result<void> check_mountpoint(const std::string& path, const std::string& store_root) {
  LAYERFS_ASSIGN(std::string mountpoint, checked_mountpoint(path));
  auto store = real_path(store_root);
  if (!store) return {};  // made later, or missed by whoever opens it
  std::string below = mountpoint == "/" ? mountpoint : mountpoint + '/';
  if (*store == mountpoint || store->starts_with(below))
    return invalid_error("mount on", path, "it would hide the store '" + store_root + "', which it needs");
  return {};
}

Result<void> mount_in_background(const MountRequest& given, const std::string& given_mountpoint) {
  LAYERFS_ASSIGN(auto mountpoint, checked_mountpoint(given_mountpoint));
  LAYERFS_ASSIGN(auto request, absolute_request(given));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "pipe");
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  // Two forks: the server is nobody's child, so that a caller that lives on has no process to wait for.
  pid_t middle = ::fork();
  if (middle < 0) return system_error(errno, "fork");
  if (middle == 0) {
    reader.reset();
    pid_t server = ::fork();
    if (server == 0) background_main(request, mountpoint, std::move(writer));
    if (server < 0) send_outcome(writer, system_error(errno, "fork"));
    ::_exit(server < 0 ? 1 : 0);
  }
  writer.reset();
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  return receive_outcome(reader.get());
}

Result<void> mount_in_foreground(const MountRequest& given, const std::string& given_mountpoint) {
  LAYERFS_ASSIGN(auto mountpoint, checked_mountpoint(given_mountpoint));
  LAYERFS_ASSIGN(auto request, absolute_request(given));
  prepare_server_process();
  LAYERFS_ASSIGN(Served served, serve_mount(request, mountpoint, Fd()));
  if (served.unwritten) return std::unexpected(*served.unwritten);
  return {};
}

namespace {

/// A mount's connection to its server, where fusectl shows it. It is known by its directory's inode, which is
/// held: the number in the directory's name is the device number of the file system, and with the file system
/// gone the kernel gives it to the next.
class ConnectionSight {
 public:
  explicit ConnectionSight(const MountEntry& entry)
      : path_(fmt::format("/sys/fs/fuse/connections/{}", entry.device_minor)) {
    if (auto opened = open_file(path_, O_PATH | O_DIRECTORY); opened) directory_ = std::move(*opened);
  }
  /// The kernel removes the directory with the last mount, wherever that was.
  bool is_there() const {
    if (!directory_) return false;
    auto held = stat_fd(directory_.get());
    auto now = find_stat_at(AT_FDCWD, path_, 0);
    return held && now && *now && (*now)->st_ino == held->st_ino && (*now)->st_dev == held->st_dev;
  }

 private:
  std::string path_;
  Fd directory_;
};

/// Waits for the server to close the upper. Where the mount lives on in another mount namespace that may take
/// for ever: then it says so and returns.
Result<void> wait_for_close(int lock, const MountEntry& entry, const ConnectionSight& connection) {
  using std::chrono::milliseconds;
  for (milliseconds waited{0};; waited += kLockPause) {
    LAYERFS_ASSIGN(bool closed, lock_file(lock, LockMode::kShared, LockWait::kNo));
    if (closed) return {};
    // Not before the server has had the time to notice: most have closed by then.
    if (waited >= kFirstLook && waited % kFirstLook == milliseconds(0)) {
      auto holder = find_holder(entry);
      if (holder || connection.is_there()) {
        log_warning(
            "'{}' is unmounted here, and still mounted in {}: its server goes on until it is gone there too",
            entry.path,
            holder ? fmt::format("the mount namespace of process {}", *holder)
                   : std::string("another mount namespace"));
        return {};
      }
    }
    std::this_thread::sleep_for(kLockPause);
  }
}

}  // namespace

Result<void> unmount(const std::string& given_mountpoint, const std::string& store_root) {
  // realpath(3) would ask a server that may be dead: only what lies above the mount point is resolved.
  LAYERFS_ASSIGN(auto path, mount_path(given_mountpoint));
  LAYERFS_ASSIGN(auto entry, find_mount(path));
  if (!entry)
    return invalid_error("unmount", given_mountpoint, "not mounted (`layerfs mount` lists what is)");
  ConnectionSight connection(*entry);
  LAYERFS_TRY(fuse::unmount_path(path, fuse::UnmountMode::kNow));
  auto lock = open_container_file(join_path(join_path(store_root, "containers"), source_name(*entry)), "lock",
                                  O_RDONLY);
  if (!lock) return {};  // read-only, or of another store
  return wait_for_close(lock->get(), *entry, connection);
}

Result<std::string> mount_path(const std::string& path) {
  std::string plain = path;
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  std::size_t slash = plain.rfind('/');
  std::string name = slash == std::string::npos ? plain : plain.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return real_path(plain);
  std::string above = slash == std::string::npos ? "." : slash == 0 ? "/" : plain.substr(0, slash);
  LAYERFS_ASSIGN(auto directory, real_path(above));
  return join_path(directory, name);
}

}  // namespace layerfs::mount
