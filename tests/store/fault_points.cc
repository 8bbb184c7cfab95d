// SPDX-License-Identifier: Apache-2.0
// The definitions behind fault_points.h. Each makes its system call itself, so that no name is looked up
// twice.
#include "tests/store/fault_points.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

namespace layerfs::store::fault {
namespace {

std::atomic<bool> armed{false};
std::atomic<int> count{0};
std::atomic<int> point{0};
std::atomic<Action> chosen{Action::kCount};

enum class Needs : unsigned char { kSpace, kNothing };

/// True where the call is to fail.
bool reached(Needs needs) {
  if (!armed.load(std::memory_order_relaxed)) return false;
  int number = ++count;
  Action action = chosen;
  if (number < point || action == Action::kCount) return false;
  if (action == Action::kFull) {
    if (needs == Needs::kNothing) return false;
  } else if (number != point) {
    return false;
  }
  if (action == Action::kKill) ::syscall(SYS_kill, ::syscall(SYS_getpid), SIGKILL);
  errno = ENOSPC;
  return true;
}

std::mutex events_mutex;
std::vector<Event> events;
std::atomic<bool> recording{false};

std::string path_of(int fd) {
  char path[4096];
  ssize_t size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return std::string(path, size > 0 ? static_cast<std::size_t>(size) : 0);
}

std::string path_at(int dir, const char* path) {
  return dir == AT_FDCWD || path[0] == '/' ? path : path_of(dir) + "/" + path;
}

void keep(Event event) {
  std::lock_guard lock(events_mutex);
  events.push_back(std::move(event));
}

}  // namespace

int flushed(int result, const char* call, int fd) {
  if (result == 0 && recording) keep({call, path_of(fd), {}});
  return result;
}

int renamed(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  std::string from_path = recording ? path_at(from_dir, from) : std::string();
  long result = ::syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  if (result == 0 && recording) keep({"rename", from_path, path_at(to_dir, to)});
  return static_cast<int>(result);
}

void record_events() {
  std::lock_guard lock(events_mutex);
  events.clear();
  recording = true;
}

std::vector<Event> take_events() {
  recording = false;
  std::lock_guard lock(events_mutex);
  return std::move(events);
}

void arm(Action action, int at) {
  chosen = action;
  point = at;
  count = 0;
  armed = true;
}

int disarm() {
  armed = false;
  return count;
}

}  // namespace layerfs::store::fault

// The headers declare these names with attributes, and some under two names; labels avoid all that.
using layerfs::store::fault::flushed;
using layerfs::store::fault::Needs;
using layerfs::store::fault::reached;
using layerfs::store::fault::renamed;

#define LAYERFS_TAKE_OVER(name, symbol, result, needs, number, parameters, ...) \
  extern "C" result layerfs_fault_##name parameters __asm__(symbol);            \
  extern "C" result layerfs_fault_##name parameters {                           \
    if (reached(needs)) return -1;                                              \
    return static_cast<result>(::syscall(number, __VA_ARGS__));                 \
  }
/// The same, with `make` as what makes the call.
#define LAYERFS_TAKE_OVER_AS(name, symbol, result, needs, make, parameters) \
  extern "C" result layerfs_fault_##name parameters __asm__(symbol);        \
  extern "C" result layerfs_fault_##name parameters {                       \
    if (reached(needs)) return -1;                                          \
    return make;                                                            \
  }

LAYERFS_TAKE_OVER(write, "write", ssize_t, Needs::kSpace, SYS_write, (int fd, const void* data, size_t size),
                  fd, data, size)
LAYERFS_TAKE_OVER(pwrite, "pwrite", ssize_t, Needs::kSpace, SYS_pwrite64,
                  (int fd, const void* data, size_t size, off_t offset), fd, data, size, offset)
LAYERFS_TAKE_OVER(pwrite64, "pwrite64", ssize_t, Needs::kSpace, SYS_pwrite64,
                  (int fd, const void* data, size_t size, off_t offset), fd, data, size, offset)
// The kernel takes the offset in two halves; on 64 bits the first is all of it.
LAYERFS_TAKE_OVER(pwritev, "pwritev", ssize_t, Needs::kSpace, SYS_pwritev,
                  (int fd, const struct iovec* pieces, int pieces_count, off_t offset), fd, pieces,
                  pieces_count, offset, 0L)
LAYERFS_TAKE_OVER(pwritev64, "pwritev64", ssize_t, Needs::kSpace, SYS_pwritev,
                  (int fd, const struct iovec* pieces, int pieces_count, off_t offset), fd, pieces,
                  pieces_count, offset, 0L)
LAYERFS_TAKE_OVER(ftruncate, "ftruncate", int, Needs::kSpace, SYS_ftruncate, (int fd, off_t size), fd, size)
LAYERFS_TAKE_OVER(ftruncate64, "ftruncate64", int, Needs::kSpace, SYS_ftruncate, (int fd, off_t size), fd,
                  size)
LAYERFS_TAKE_OVER_AS(fsync, "fsync", int, Needs::kSpace,
                     flushed(static_cast<int>(::syscall(SYS_fsync, fd)), "fsync", fd), (int fd))
LAYERFS_TAKE_OVER_AS(fdatasync, "fdatasync", int, Needs::kSpace,
                     flushed(static_cast<int>(::syscall(SYS_fdatasync, fd)), "fdatasync", fd), (int fd))
LAYERFS_TAKE_OVER_AS(syncfs, "syncfs", int, Needs::kSpace,
                     flushed(static_cast<int>(::syscall(SYS_syncfs, fd)), "syncfs", fd), (int fd))
LAYERFS_TAKE_OVER(mkdir, "mkdir", int, Needs::kSpace, SYS_mkdirat, (const char* path, mode_t mode), AT_FDCWD,
                  path, mode)
LAYERFS_TAKE_OVER(mkdirat, "mkdirat", int, Needs::kSpace, SYS_mkdirat,
                  (int dir, const char* path, mode_t mode), dir, path, mode)
LAYERFS_TAKE_OVER_AS(renameat, "renameat", int, Needs::kNothing, renamed(from_dir, from, to_dir, to, 0),
                     (int from_dir, const char* from, int to_dir, const char* to))
LAYERFS_TAKE_OVER_AS(rename, "rename", int, Needs::kNothing, renamed(AT_FDCWD, from, AT_FDCWD, to, 0),
                     (const char* from, const char* to))
LAYERFS_TAKE_OVER_AS(renameat2, "renameat2", int, Needs::kNothing, renamed(from_dir, from, to_dir, to, flags),
                     (int from_dir, const char* from, int to_dir, const char* to, unsigned flags))
LAYERFS_TAKE_OVER(unlink, "unlink", int, Needs::kNothing, SYS_unlinkat, (const char* path), AT_FDCWD, path, 0)
LAYERFS_TAKE_OVER(unlinkat, "unlinkat", int, Needs::kNothing, SYS_unlinkat,
                  (int dir, const char* path, int flags), dir, path, flags)
LAYERFS_TAKE_OVER(rmdir, "rmdir", int, Needs::kNothing, SYS_unlinkat, (const char* path), AT_FDCWD, path,
                  AT_REMOVEDIR)
