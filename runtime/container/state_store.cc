// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/state_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "fs/base/sys_file.h"
#include "runtime/sys/cgroup.h"
#include "runtime/sys/clone.h"

namespace layerfs::container {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;

std::unexpected<Error> absent(const std::string& id) {
  return std::unexpected(Error{ErrorKind::kSystem, ENOENT, "container '" + id + "'", "does not exist"});
}

Result<ContainerState> parse_state(const std::string& text, const std::string& id) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  auto bad = [&](const char* reason) { return corrupt_error("read state of container", id, reason); };
  if (document.is_discarded() || !document.is_object()) return bad("not a JSON object");
  auto string = [&](const char* name) {
    auto found = document.find(name);
    return found != document.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  auto number = [&](const char* name) -> std::int64_t {
    auto found = document.find(name);
    return found != document.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
  };
  if (number("version") != kVersion) return bad("is of another version");
  ContainerState state;
  state.id = string("id");
  state.oci_version = string("ociVersion");
  state.bundle = string("bundle");
  state.rootfs = string("rootfs");
  state.pid = static_cast<pid_t>(number("pid"));
  state.start_time = static_cast<std::uint64_t>(number("startTime"));
  state.created_at = number("created");
  if (auto found = document.find("ready"); found != document.end() && found->is_boolean())
    state.ready = found->get<bool>();
  state.owner_uid = static_cast<std::uint32_t>(number("owner"));
  state.callers_mount = static_cast<std::uint64_t>(number("callersMount"));
  state.callers_root = document.contains("callersRoot") ? string("callersRoot") : state.rootfs;
  auto strings = [&](const char* name, std::vector<std::string>& to) {
    if (auto found = document.find(name); found != document.end() && found->is_array())
      for (const auto& item : *found)
        if (item.is_string()) to.push_back(item.get<std::string>());
  };
  strings("cgroups", state.cgroups);
  strings("resctrl", state.resctrl);
  state.scope = string("scope");
  if (auto found = document.find("annotations"); found != document.end() && found->is_object())
    for (const auto& [key, value] : found->items())
      if (value.is_string()) state.annotations[key] = value.get<std::string>();
  if (state.id != id) return bad("names another container");
  return state;
}

/// Not the first one, which maps every id to itself (user_namespaces(7)).
bool in_user_namespace() {
  auto map = read_file("/proc/self/uid_map", 4096);
  return map && map->find(" 4294967295") == std::string::npos;
}

}  // namespace

std::string_view to_text(Status status) {
  switch (status) {
    case Status::kCreating: return "creating";
    case Status::kCreated: return "created";
    case Status::kRunning: return "running";
    case Status::kPaused: return "paused";
    case Status::kStopped: return "stopped";
  }
  return "stopped";
}

Result<void> check_container_id(const std::string& id) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
  bool good = !id.empty() && id.size() <= 1024 && id.front() != '.' &&
              id.find_first_not_of(kAllowed) == std::string::npos;
  if (!good)
    return invalid_error(
        "container ID", id,
        "has an invalid character: it must be of letters, digits and \"_+-.\", and not begin with '.'");
  return {};
}

std::string StateStore::default_root() {
  const char* runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  bool has_runtime_dir = runtime_dir != nullptr && *runtime_dir == '/';
  // The root of a user namespace (a rootless engine's) may not write to the host's /run.
  if (has_runtime_dir && (::geteuid() != 0 || in_user_namespace()))
    return std::string(runtime_dir) + "/layerfs-oci";
  if (::geteuid() != 0) return "/tmp/layerfs-oci-" + std::to_string(::geteuid());
  return "/run/layerfs-oci";
}

std::string StateStore::directory(const std::string& id) const { return root_ + '/' + id; }
std::string StateStore::removed_directory(const std::string& id) const { return root_ + "/~" + id; }
std::string StateStore::notify_directory(const std::string& id) const { return directory(id) + "/notify"; }
std::string StateStore::start_fifo(const std::string& id) const { return directory(id) + "/start"; }

void StateStore::Locked::unlock() {
  if (lock) ::flock(lock.get(), LOCK_UN);
  lock.reset();
}

Result<void> StateStore::check_root() const {
  if (!is_default_) return {};
  if (auto found = find_own_dir(root_); !found) return with_context(found.error(), "state");
  return {};
}

Result<StateStore::Locked> StateStore::create(const std::string& id) const {
  LAYERFS_TRY(check_container_id(id));
  LAYERFS_TRY(check_root());
  LAYERFS_TRY(make_dirs(root_, 0700));
  LAYERFS_TRY(check_root());  // another may have made it meanwhile
  std::string path = directory(id);
  LAYERFS_TRY(remove_tree(removed_directory(id)));  // of a delete that died
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno == EEXIST)
      return std::unexpected(Error{ErrorKind::kSystem, EEXIST, "container '" + id + "'", "exists already"});
    return system_error(errno, "create directory", path);
  }
  return lock(id);
}

Result<StateStore::Locked> StateStore::lock(const std::string& id) const {
  LAYERFS_TRY(check_container_id(id));
  LAYERFS_TRY(check_root());
  std::string path = directory(id);
  // Made where it is missing: a creator that died after its mkdir left a directory without one.
  auto fd = open_file(path + "/lock", O_RDWR | O_CREAT, 0600);
  if (!fd && (fd.error().code == ENOENT || fd.error().code == ENOTDIR)) return absent(id);
  if (!fd) return std::unexpected(fd.error());
  LAYERFS_TRY(lock_file(fd->get(), LockMode::kExclusive, LockWait::kYes));
  // Deleted while we waited: the lock is of a directory that is gone.
  struct stat st;
  if (::fstat(fd->get(), &st) != 0 || st.st_nlink == 0) return absent(id);
  return Locked{std::move(path), std::move(*fd)};
}

bool StateStore::is_locked(const std::string& id) const {
  auto fd = open_file(directory(id) + "/lock", O_RDWR);
  if (!fd) return fd.error().code == ENOENT;  // create makes it next
  auto taken = lock_file(fd->get(), LockMode::kExclusive, LockWait::kNo);
  return taken && !*taken;
}

Result<ContainerState> StateStore::read(const std::string& id) const {
  LAYERFS_TRY(check_container_id(id));
  LAYERFS_TRY(check_root());
  auto text = read_file(directory(id) + "/state.json");
  if (!text && text.error().code == ENOENT) {
    // A creator that died before its first write leaves a directory: it can be deleted.
    if (::access(directory(id).c_str(), F_OK) != 0) return absent(id);
    ContainerState state;
    state.id = id;
    return state;
  }
  if (!text) return std::unexpected(text.error());
  return parse_state(*text, id);
}

Result<void> StateStore::write(const ContainerState& state) const {
  json document{{"version", kVersion},
                {"id", state.id},
                {"ociVersion", state.oci_version},
                {"bundle", state.bundle},
                {"rootfs", state.rootfs},
                {"pid", state.pid},
                {"startTime", state.start_time},
                {"created", state.created_at},
                {"ready", state.ready},
                {"cgroups", state.cgroups},
                {"scope", state.scope},
                {"resctrl", state.resctrl},
                {"callersMount", state.callers_mount},
                {"callersRoot", state.callers_root},
                {"annotations", state.annotations},
                {"owner", state.owner_uid}};
  std::string text = document.dump(2, ' ', false, json::error_handler_t::replace);
  std::string path = directory(state.id) + "/state.json";
  std::string temporary = path + ".new";
  // Not synced: after a power failure there is no container whose state it could be.
  LAYERFS_ASSIGN(Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  LAYERFS_TRY(write_full(fd.get(), std::as_bytes(std::span(text))));
  return rename_file(temporary, path);
}

Result<void> StateStore::remove(const std::string& id) const {
  // Renamed first: there is never half a directory that has the container's name.
  LAYERFS_TRY(remove_tree(removed_directory(id)));  // of a delete that died
  LAYERFS_TRY(rename_file(directory(id), removed_directory(id)));
  return remove_tree(removed_directory(id));
}

Result<std::vector<std::string>> StateStore::list() const {
  LAYERFS_TRY(check_root());
  auto names = list_dir(root_);
  if (!names && names.error().code == ENOENT) return std::vector<std::string>{};
  if (!names) return names;
  std::erase_if(*names, [&](const std::string& name) { return !check_container_id(name); });
  return names;
}

Result<Status> find_status(const StateStore& store, const ContainerState& state) {
  if (state.pid == 0) return Status::kCreating;
  LAYERFS_ASSIGN(auto start_time, sys::find_start_time(state.pid));
  if (!start_time || *start_time != state.start_time) return Status::kStopped;
  if (!state.ready) return Status::kCreating;
  if (!state.cgroups.empty() && sys::CgroupDirs(state.cgroups).is_frozen()) return Status::kPaused;
  return ::access(store.start_fifo(state.id).c_str(), F_OK) == 0 ? Status::kCreated : Status::kRunning;
}

namespace {

json state_document(const ContainerState& state, Status status) {
  json document = json::object();
  document["ociVersion"] = state.oci_version;
  document["id"] = state.id;
  document["status"] = to_text(status);
  if (status != Status::kStopped && state.pid != 0) document["pid"] = state.pid;
  document["bundle"] = state.bundle;
  document["annotations"] = state.annotations;
  return document;
}

}  // namespace

std::string state_json(const ContainerState& state, Status status) {
  return state_document(state, status).dump(2, ' ', false, json::error_handler_t::replace);
}

std::string process_state_json(const ContainerState& state, Status status, pid_t pid,
                               const std::string& metadata) {
  json document = json::object();
  document["ociVersion"] = state.oci_version;
  document["fds"] = {"seccompFd"};
  document["pid"] = pid;
  if (!metadata.empty()) document["metadata"] = metadata;
  document["state"] = state_document(state, status);
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace layerfs::container
