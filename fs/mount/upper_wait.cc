// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/upper_wait.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/sysmacros.h>

#include <charconv>
#include <chrono>
#include <thread>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/fuse/device.h"
#include "fs/mount/mount_table.h"
#include "fs/mount/server_process.h"
#include "fs/upper/delta_upper.h"

namespace layerfs::mount {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPause{5};
constexpr milliseconds kPatience{15'000};  // of a mount that starts: what was written last may be much
constexpr milliseconds kFirstWord{1000};   // then a takeover says in the log what it waits for
constexpr std::size_t kMostOfCommand = 80;

/// The kernel ends a connection with its last mount; the device then has an error (fuse(4)).
bool is_gone(int device) {
  pollfd connection{device, 0, 0};
  return device >= 0 && ::poll(&connection, 1, 0) > 0;
}

/// Where the upper is mounted in this mount namespace.
std::optional<std::string> find_place(const MountRequest& request) {
  auto mounts = list_mounts();
  if (!mounts) return std::nullopt;
  for (const MountEntry& entry : *mounts)
    if (entry.source == request.fuse.source) return entry.path;
  return std::nullopt;
}

/// A signal that ends a mount, where one has come; its signals are blocked (prepare_server_process()), and
/// nobody else takes them before it serves.
bool takes_ending_signal() {
  sigset_t set = ending_signals();
  timespec now{};
  return ::sigtimedwait(&set, nullptr, &now) > 0;
}

void unmount_lazily(const MountRequest& request) {
  auto place = find_place(request);
  if (!place) return;
  if (auto done = fuse::unmount_path(*place, fuse::UnmountMode::kLazy); !done)
    log_warning("{}", done.error().message());
}

std::unexpected<Error> busy(const MountRequest& request, std::string reason) {
  auto error = system_error(EBUSY, "open upper", request.upper_id);
  error.error().reason = std::move(reason);
  return error;
}

/// The program's name and what it was told, or nothing.
std::string command_of(int pid) {
  auto text = read_file(fmt::format("/proc/{}/cmdline", pid), 65536);
  if (!text) return {};
  std::string command;
  for (char c : text->substr(0, text->find_last_not_of('\0') + 1)) {
    if (command.size() == kMostOfCommand) return command + "...";
    command += c == '\0' || static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return command;
}

}  // namespace

std::optional<int> find_lock_holder(std::string_view locks, std::string_view file) {
  while (!locks.empty()) {
    std::size_t end = locks.find('\n');
    std::string_view line = locks.substr(0, end);
    locks = end == std::string_view::npos ? std::string_view{} : locks.substr(end + 1);
    // "1: FLOCK  ADVISORY  WRITE 6089 08:02:1234 0 EOF"; who waits has an arrow before the kind.
    std::size_t kind = line.find(": FLOCK ");
    std::size_t at = line.find(fmt::format(" {} ", file));
    if (kind == std::string_view::npos || at == std::string_view::npos) continue;
    std::size_t before = line.rfind(' ', at - 1);
    if (before == std::string_view::npos) continue;
    int pid = 0;
    auto [rest, code] = std::from_chars(line.data() + before + 1, line.data() + at, pid);
    if (code == std::errc() && rest == line.data() + at && pid > 0) return pid;
  }
  return std::nullopt;
}

std::string describe_lock_holder(const std::string& path) {
  constexpr const char* kUnknown = "another process";
  auto attributes = find_stat_at(AT_FDCWD, path, 0);
  auto locks = read_file("/proc/locks");
  if (!attributes || !*attributes || !locks) return kUnknown;
  const struct stat& st = **attributes;
  auto pid = find_lock_holder(*locks,
                              fmt::format("{:02x}:{:02x}:{}", major(st.st_dev), minor(st.st_dev), st.st_ino));
  if (!pid) return kUnknown;
  std::string command = command_of(*pid);
  return command.empty() ? fmt::format("process {}", *pid) : fmt::format("process {} ({})", *pid, command);
}

Result<std::shared_ptr<tree::UpperLayer>> open_upper(const MountRequest& request, OpenFor what, int device) {
  upper::DeltaOptions options{.read_only = false, .is_volatile = request.is_volatile};
  std::string lock = join_path(request.upper_dir, "lock");
  for (milliseconds waited{0};; waited += kPause) {
    auto opened = upper::open_delta(request.upper_dir, options);
    if (opened) return std::shared_ptr<tree::UpperLayer>(std::move(*opened));
    if (opened.error().code != EBUSY) return std::unexpected(std::move(opened).error());
    if (what == OpenFor::kStart) {
      if (auto place = find_place(request))
        return busy(request, fmt::format("already mounted on '{}'", *place));
      if (waited >= kPatience) return busy(request, fmt::format("{} has it", describe_lock_holder(lock)));
    } else {
      bool told = takes_ending_signal();
      if (told) unmount_lazily(request);
      if (told || is_gone(device))
        return system_error(ENODEV, "take over the mount of upper", request.upper_id);
      if (waited == kFirstWord)
        log_warning("the mount of '{}' waits for {}, which has its upper", request.upper_id,
                    describe_lock_holder(lock));
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace layerfs::mount
