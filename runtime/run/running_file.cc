// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/running_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <span>

#include "fs/base/log.h"
#include "fs/base/sys_file.h"
#include "fs/store/store.h"
#include "runtime/sys/cgroup.h"
#include "runtime/sys/clone.h"

namespace layerfs::run {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr std::size_t kPadding =
    4096;  // later states fit without a change of size, so that a reader sees one whole

std::string directory_of(const std::string& store_root) { return store_root + "/running"; }

std::string format(const RunningState& state) {
  json document{{"version", kVersion},
                {"id", state.id},
                {"name", state.name},
                {"pid", state.pid},
                {"startTime", state.start_time},
                {"monitor", state.monitor},
                {"cgroups", state.cgroups},
                {"remove", state.remove},
                {"started", state.started}};
  std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() < kPadding) text.append(kPadding - text.size(), ' ');
  return text;
}

Result<RunningState> parse(const std::string& text, const std::string& id) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object() || document.value("version", 0) != kVersion)
    return corrupt_error("read state of running container", id, "not what this version writes");
  RunningState state;
  state.id = id;
  auto number = [&](const char* name) -> std::int64_t {
    auto found = document.find(name);
    return found != document.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
  };
  if (auto found = document.find("name"); found != document.end() && found->is_string())
    state.name = found->get<std::string>();
  state.pid = static_cast<pid_t>(number("pid"));
  state.start_time = static_cast<std::uint64_t>(number("startTime"));
  state.monitor = static_cast<pid_t>(number("monitor"));
  state.started = number("started");
  if (auto found = document.find("remove"); found != document.end() && found->is_boolean())
    state.remove = found->get<bool>();
  if (auto found = document.find("cgroups"); found != document.end() && found->is_array())
    for (const auto& item : *found)
      if (item.is_string()) state.cgroups.push_back(item.get<std::string>());
  return state;
}

/// F_SETLK of the whole file; false where another process holds it.
Result<bool> take_lock(int fd) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_SETLK, &lock) == 0) return true;
  if (errno == EACCES || errno == EAGAIN) return false;
  return system_error(errno, "lock");
}

Result<bool> is_locked(int fd) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_GETLK, &lock) != 0) return system_error(errno, "lock");
  return lock.l_type != F_UNLCK;
}

}  // namespace

Result<RunningFile> RunningFile::create(const std::string& store_root, const RunningState& state) {
  std::string directory = directory_of(store_root);
  LAYERFS_TRY(make_dir(directory, 0700));
  std::string path = directory + '/' + state.id;
  std::string temporary = directory + "/." + state.id + '.' + std::to_string(::getpid());
  LAYERFS_ASSIGN(Fd fd, open_file(temporary, O_RDWR | O_CREAT | O_TRUNC, 0600));
  RunningFile file(temporary, std::move(fd));
  LAYERFS_ASSIGN(bool locked, take_lock(file.fd_.get()));
  if (!locked) return system_error(EBUSY, "lock", temporary);
  LAYERFS_TRY(file.update(state));
  if (auto renamed = rename_at(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE); !renamed) {
    ::unlink(temporary.c_str());
    return std::unexpected(renamed.error());
  }
  file.path_ = path;
  return file;
}

Result<void> RunningFile::update(const RunningState& state) {
  std::string text = format(state);
  return pwrite_full(fd_.get(), std::as_bytes(std::span(text)), 0);
}

Result<void> RunningFile::remove() { return unlink_at(AT_FDCWD, path_, 0); }

Result<std::optional<FoundRunning>> find_running(const std::string& store_root, const std::string& id) {
  auto fd = open_file(directory_of(store_root) + '/' + id, O_RDWR);
  if (!fd && fd.error().code == ENOENT) return std::nullopt;
  if (!fd) return std::unexpected(fd.error());
  FoundRunning found;
  LAYERFS_ASSIGN(found.alive, is_locked(fd->get()));
  std::string text(2 * kPadding, ' ');
  LAYERFS_ASSIGN(std::size_t size, pread_full(fd->get(), std::as_writable_bytes(std::span(text)), 0));
  text.resize(size);
  LAYERFS_ASSIGN(found.state, parse(text, id));
  return found;
}

Result<std::vector<FoundRunning>> list_running(const std::string& store_root) {
  std::vector<FoundRunning> list;
  auto names = list_dir(directory_of(store_root));
  if (!names && names.error().code == ENOENT) return list;
  if (!names) return std::unexpected(names.error());
  for (const auto& name : *names) {
    if (name.starts_with('.')) continue;
    auto found = find_running(store_root, name);
    if (!found)
      log_warning("{}", found.error().message());
    else if (*found)
      list.push_back(std::move(**found));
  }
  return list;
}

Result<void> clean_up(const std::string& store_root, const RunningState& state) {
  if (state.pid > 0) {
    LAYERFS_ASSIGN(auto start_time, sys::find_start_time(state.pid));
    if (start_time && *start_time == state.start_time) ::kill(state.pid, SIGKILL);
  }
  sys::CgroupDirs cgroup(state.cgroups);
  LAYERFS_ASSIGN(auto processes, cgroup.processes());
  for (pid_t pid : processes) ::kill(pid, SIGKILL);
  LAYERFS_TRY(cgroup.remove());
  if (state.remove) {
    LAYERFS_ASSIGN(auto store, store::Store::open(store_root, store::StoreAccess::kWrite));
    auto removed = store->remove_container(state.id);
    if (!removed && removed.error().code != ENOENT) return removed;
  }
  return unlink_at(AT_FDCWD, directory_of(store_root) + '/' + state.id, 0);
}

void sweep_stale(const std::string& store_root) {
  auto list = list_running(store_root);
  if (!list) {
    log_warning("{}", list.error().message());
    return;
  }
  for (const auto& found : *list) {
    if (found.alive) continue;
    auto cleaned = clean_up(store_root, found.state);
    // Busy: its server is still writing. Gone: another sweep was faster.
    if (!cleaned && cleaned.error().code != EBUSY && cleaned.error().code != ENOENT)
      log_warning("clean up after container '{}': {}", found.state.id.substr(0, 12),
                  cleaned.error().message());
  }
}

}  // namespace layerfs::run
