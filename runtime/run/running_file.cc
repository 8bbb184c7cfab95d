// SPDX-License-Identifier: Apache-2.0
#include "runtime/run/running_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "fs/base/log.h"
#include "fs/base/own_files.h"
#include "fs/base/sys_file.h"
#include "fs/mount/container_dir.h"
#include "fs/store/store.h"
#include "runtime/run/json_fields.h"
#include "runtime/sys/cgroup.h"
#include "runtime/sys/clone.h"

namespace layerfs::run {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr std::size_t kPadding =
    4096;  // later states fit without a change of size, so that a reader sees one whole

std::string directory_of(const std::string& store_root) { return store_root + "/running"; }

/// Errors: ENOENT; ELOOP, ENOTDIR where it is none: nothing is read or removed elsewhere.
Result<OwnDirectory> open_directory(const std::string& store_root) {
  std::string path = directory_of(store_root);
  LAYERFS_ASSIGN(Fd directory, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return OwnDirectory(std::move(directory), std::move(path));
}

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

/// The groups that a monitor makes for this container have names of their own (run's plan): whatever else a
/// damaged file says is nobody's to empty or to remove.
bool is_cgroup_of(const std::string& path, const std::string& id) {
  std::size_t slash = path.rfind('/');
  return path.starts_with('/') && !path.contains("/../") &&
         path.substr(slash + 1).starts_with("layerfs-" + id);
}

Result<RunningState> parse(const std::string& text, const std::string& id) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || integer_field(document, "version", 0) != kVersion)
    return corrupt_error("read state of running container", id, "not what this version writes");
  RunningState state;
  state.id = id;
  state.name = string_field(document, "name");
  state.pid = static_cast<pid_t>(integer_field(document, "pid", 0));
  state.start_time = static_cast<std::uint64_t>(integer_field(document, "startTime", 0));
  state.monitor = static_cast<pid_t>(integer_field(document, "monitor", 0));
  state.started = integer_field(document, "started", 0);
  state.remove = boolean_field(document, "remove");
  if (auto found = document.find("cgroups"); found != document.end() && found->is_array())
    for (const auto& item : *found)
      if (item.is_string() && is_cgroup_of(item.get<std::string>(), id))
        state.cgroups.push_back(item.get<std::string>());
  return state;
}

}  // namespace

Result<RunningFile> RunningFile::create(const std::string& store_root, const RunningState& state) {
  LAYERFS_TRY(make_dir(directory_of(store_root), 0700));
  LAYERFS_ASSIGN(const OwnDirectory directory, open_directory(store_root));
  std::string temporary = "." + state.id + '.' + std::to_string(::getpid());
  LAYERFS_ASSIGN(Fd fd, directory.open(temporary, O_RDWR | O_CREAT | O_TRUNC, 0600));
  RunningFile file(store_root, state.id, std::move(fd));
  LAYERFS_ASSIGN(bool locked, lock_file(file.fd_.get(), LockMode::kExclusive, LockWait::kNo));
  if (!locked) return system_error(EBUSY, "lock", directory.shown() + '/' + temporary);
  LAYERFS_TRY(file.update(state));
  if (auto renamed = directory.rename(temporary, state.id, RENAME_NOREPLACE); !renamed) {
    if (auto removed = directory.unlink(temporary); !removed) log_warning("{}", removed.error().message());
    return std::unexpected(renamed.error());
  }
  return file;
}

RunningFile RunningFile::adopt(const std::string& store_root, const std::string& id, Fd fd) {
  return {store_root, id, std::move(fd)};
}

Result<void> RunningFile::update(const RunningState& state) {
  std::string text = format(state);
  return pwrite_full(fd_.get(), std::as_bytes(std::span(text)), 0);
}

Result<void> RunningFile::remove() {
  LAYERFS_ASSIGN(const OwnDirectory directory, open_directory(store_root_));
  return directory.unlink(id_);
}

namespace {

struct Opened {
  FoundRunning found;
  Fd lock;  ///< held exclusively where it is stale
};

Result<std::optional<Opened>> open_running(const std::string& store_root, const std::string& id) {
  auto fd = mount::open_container_file(directory_of(store_root), id, O_RDWR);
  if (!fd && fd.error().code == ENOENT) return std::nullopt;
  if (!fd) return std::unexpected(fd.error());
  // Whoever cleans up kills and removes what it names: nobody does that on the word of another user.
  LAYERFS_ASSIGN(struct stat attributes, stat_fd(fd->get()));
  if (attributes.st_uid != ::geteuid())
    return corrupt_error("read state of running container", id, "belongs to another user");
  Opened opened;
  LAYERFS_ASSIGN(bool stale, lock_file(fd->get(), LockMode::kExclusive, LockWait::kNo));
  opened.found.alive = !stale;
  struct stat st;
  if (stale && (::fstat(fd->get(), &st) != 0 || st.st_nlink == 0))
    return std::nullopt;  // just cleaned by another
  std::string text(2 * kPadding, ' ');
  LAYERFS_ASSIGN(std::size_t size, pread_full(fd->get(), std::as_writable_bytes(std::span(text)), 0));
  text.resize(size);
  LAYERFS_ASSIGN(opened.found.state, parse(text, id));
  opened.lock = std::move(*fd);
  return opened;
}

Result<std::vector<Opened>> open_all(const std::string& store_root) {
  std::vector<Opened> list;
  auto directory = open_directory(store_root);
  if (!directory && directory.error().code == ENOENT) return list;
  if (!directory) return std::unexpected(directory.error());
  LAYERFS_ASSIGN(const auto names, directory->list("."));
  for (const auto& name : names) {
    if (name.starts_with('.')) continue;
    auto opened = open_running(store_root, name);
    if (!opened)
      log_warning("{}", opened.error().message());
    else if (*opened)
      list.push_back(std::move(**opened));
  }
  return list;
}

/// Those that are directories of a cgroup hierarchy: elsewhere its files would be whatever lies there.
std::vector<std::string> real_cgroups(const std::vector<std::string>& paths) {
  std::vector<std::string> real;
  for (const std::string& path : paths) {
    auto directory = open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (!directory && directory.error().code == ENOENT) continue;
    struct statfs found{};
    if (directory && ::fstatfs(directory->get(), &found) == 0 &&
        (found.f_type == CGROUP_SUPER_MAGIC || found.f_type == CGROUP2_SUPER_MAGIC))
      real.push_back(path);
    else
      log_warning("'{}' is no cgroup: left alone", path);
  }
  return real;
}

/// A container that was killed while it was made may be a directory without a record.
Result<void> remove_container(const std::string& store_root, const std::string& id) {
  LAYERFS_ASSIGN(auto store, store::Store::open(store_root, store::StoreAccess::kWrite));
  auto removed = store->remove_container(id);
  if (removed || removed.error().code != ENOENT) return removed;
  return remove_tree(store->container_dir(id));
}

}  // namespace

Result<std::optional<FoundRunning>> find_running(const std::string& store_root, const std::string& id) {
  LAYERFS_ASSIGN(auto opened, open_running(store_root, id));
  if (!opened) return std::nullopt;
  return std::move(opened->found);
}

Result<void> clean_up(const std::string& store_root, const RunningState& state) {
  if (state.pid > 0) {
    LAYERFS_ASSIGN(auto start_time, sys::find_start_time(state.pid));
    if (start_time && *start_time == state.start_time) ::kill(state.pid, SIGKILL);
  }
  const auto groups = real_cgroups(state.cgroups);
  // A server beside the container's processes ends by itself, when it has written everything.
  auto of_processes = groups;
  for (auto& path : of_processes)
    if (::access((path + "/container").c_str(), F_OK) == 0) path += "/container";
  LAYERFS_TRY(sys::CgroupDirs(of_processes).kill_all());
  const sys::CgroupDirs cgroup(groups);
  LAYERFS_TRY(cgroup.remove());
  if (state.remove) LAYERFS_TRY(remove_container(store_root, state.id));
  LAYERFS_ASSIGN(const OwnDirectory directory, open_directory(store_root));
  return directory.unlink(state.id);
}

void sweep_stale(const std::string& store_root) {
  auto list = open_all(store_root);
  if (!list) {
    log_warning("{}", list.error().message());
    return;
  }
  for (const auto& opened : *list) {
    if (opened.found.alive) continue;
    auto cleaned = clean_up(store_root, opened.found.state);
    // Busy: its server is still writing.
    if (!cleaned && cleaned.error().code != EBUSY)
      log_warning("clean up after container '{}': {}", opened.found.state.id.substr(0, 12),
                  cleaned.error().message());
  }
}

}  // namespace layerfs::run
