// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <string_view>

#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "runtime/sys/device_program.h"

namespace layerfs::sys {

namespace {

/// One write(2) to an existing file: never creates.
Result<void> write_value(const std::string& path, std::string_view value) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_WRONLY));
  ssize_t size = ::write(fd.get(), value.data(), value.size());
  if (size < 0) return system_error(errno, "write", path);
  return {};
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// "domain", "domain threaded", "domain invalid" or "threaded"; empty on v1 and for the root of v2.
std::string type_of(const std::string& group) {
  auto text = read_file(group + "/cgroup.type", 64);
  return text ? text->substr(0, text->find('\n')) : std::string();
}

/// v2, not the root: it has processes of its own.
bool is_occupied(const std::string& group) {
  if (!exists(group + "/cgroup.type")) return false;
  auto text = read_file(group + "/cgroup.procs", std::size_t{1} << 22);
  return text && !text->empty();
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; (at = text.find_first_not_of(" \n", at)) != std::string::npos;) {
    std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

/// A group that is "domain invalid" is so because one above has processes and thread controllers; its
/// children are with it. From the highest such one down.
Result<void> make_threaded(const std::string& group) {
  if (type_of(group) != "domain invalid") return {};
  LAYERFS_TRY(make_threaded(parent_of(group)));
  return write_value(group + "/cgroup.type", "threaded");
}

std::optional<std::uint64_t> find_counter(const std::string& path, std::string_view name) {
  auto text = read_file(path, 65536);
  if (!text) return std::nullopt;
  std::size_t at = 0;
  while (at < text->size()) {
    std::size_t end = std::min(text->find('\n', at), text->size());
    std::string_view line = std::string_view(*text).substr(at, end - at);
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ' ') {
      std::uint64_t value = 0;
      std::from_chars(line.data() + name.size() + 1, line.data() + line.size(), value);
      return value;
    }
    at = end + 1;
  }
  return std::nullopt;
}

/// Since Linux 6.6 this file of v1 takes any value and does nothing with it.
bool is_taken_and_ignored(const std::string& path, const CgroupSetting& setting) {
  if (setting.file != "memory.kmem.limit_in_bytes" || setting.value.starts_with('-')) return false;
  auto now = read_file(path, 64);
  return now && std::strtoull(now->c_str(), nullptr, 10) > std::strtoull(setting.value.c_str(), nullptr, 10);
}

Result<void> write_setting(const std::string& directory, const CgroupSetting& setting) {
  std::string path = directory + '/' + setting.file;
  auto written = write_value(path, setting.value);
  if (!written && written.error().code == ENOENT && !setting.other_file.empty()) {
    auto other = write_value(directory + '/' + setting.other_file, setting.other_value);
    if (other || other.error().code != ENOENT) written = std::move(other);
  }
  if (written && is_taken_and_ignored(path, setting))
    return unsupported_error("field", setting.field, "this kernel ignores '" + setting.file + "'");
  if (written) return {};
  if (setting.optional && written.error().code == ENOENT) return {};
  if (written.error().code == ENOENT)
    return unsupported_error("field", setting.field, "this kernel has no '" + setting.file + "'");
  return with_context(written.error(), "set", setting.field);
}

Result<void> set_devices(const std::string& directory, const CgroupRequest& request) {
  if (request.device_program.empty()) return {};
  auto set = set_device_program(directory, request.device_program);
  if (!set) return with_context(set.error(), "set", "linux.resources.devices");
  return {};
}

/// Of a thread; 0 where it is gone.
pid_t process_of(pid_t thread) {
  auto status = read_file("/proc/" + std::to_string(thread) + "/status", 65536);
  constexpr std::string_view kField = "\nTgid:\t";
  std::size_t at = status ? status->find(kField) : std::string::npos;
  pid_t pid = 0;
  if (at != std::string::npos)
    std::from_chars(status->data() + at + kField.size(), status->data() + status->size(), pid);
  return pid;
}

void collect_processes(const std::string& directory, std::vector<pid_t>& list) {
  constexpr std::size_t kMost = std::size_t{1} << 22;
  auto text = read_file(directory + "/cgroup.procs", kMost);
  bool is_threaded = !text && text.error().code == EOPNOTSUPP;
  if (is_threaded) text = read_file(directory + "/cgroup.threads", kMost);
  if (text) {
    for (const auto& word : words_of(*text)) {
      pid_t pid = 0;
      std::from_chars(word.data(), word.data() + word.size(), pid);
      if (is_threaded) pid = process_of(pid);
      if (pid > 0 && (!is_threaded || std::ranges::find(list, pid) == list.end())) list.push_back(pid);
    }
  }
  auto names = list_dir(directory);
  if (!names) return;
  for (const auto& name : *names) {
    std::string child = directory + '/' + name;
    struct stat st;
    if (::lstat(child.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) collect_processes(child, list);
  }
}

/// Builds one request's group and remembers which directories are new.
class Maker {
 public:
  Maker(const CgroupRequest& request, const std::string& path) : request_(request), path_(path) {}

  Result<std::string> make() {
    ScopeExit undo([&] {
      for (auto it = made_.rbegin(); it != made_.rend(); ++it) ::rmdir(it->c_str());
    });
    LAYERFS_ASSIGN(std::string directory, path_.starts_with('/')
                                              ? make_at(request_.mount_point, path_, Enabling::kAsAsked)
                                              : make_near());
    if (!path_.starts_with('/') && !has_made(directory)) LAYERFS_TRY(refuse_others(directory));
    if (request_.cpuset) LAYERFS_TRY(inherit_cpuset(directory));
    for (const auto& setting : request_.settings) LAYERFS_TRY(write_setting(directory, setting));
    LAYERFS_TRY(set_devices(directory, request_));
    undo.release();
    return directory;
  }
  /// Whether it was not there before. Requires: make() has returned it.
  bool has_made(const std::string& directory) const { return !made_.empty() && made_.back() == directory; }

 private:
  /// The name was made up from the container's: the same id in another state directory means the same group,
  /// and each would limit and kill what is the other's.
  static Result<void> refuse_others(const std::string& directory) {
    std::vector<pid_t> others;
    collect_processes(directory, others);
    if (others.empty()) return {};
    return invalid_error("cgroup", directory,
                         "process " + std::to_string(others.front()) +
                             " is in it: another container of this name runs; give it a cgroupsPath");
  }

  /// Below the caller's own group; on v2, where that has processes of its own and so no limited children ("no
  /// internal processes", cgroups(7)), or is not ours to change, below its nearest ancestor that can have
  /// them.
  Result<std::string> make_near() {
    std::string own = request_.own_path == "/" ? std::string() : request_.own_path;
    std::string first = own;
    for (;;) {
      auto made = make_limited(own + '/' + path_);
      if (made || !request_.unified) return made;
      int code = made.error().code;
      if (code != EBUSY && code != EACCES && code != EPERM && code != EOPNOTSUPP && code != ENOENT)
        return made;
      // Nowhere; but where nothing has to be limited, any group will do.
      if (own.empty() && request_.controllers.empty())
        return make_at(request_.mount_point, first + '/' + path_, Enabling::kNothing);
      if (own.empty()) return made;
      own = parent_of(own);
    }
  }

  /// A group that processes can join, and that is no threaded one.
  Result<std::string> make_limited(const std::string& path) {
    LAYERFS_ASSIGN(std::string directory, make_at(request_.mount_point, path, Enabling::kUnoccupied));
    if (type_of(directory) != "domain invalid") return directory;
    for (auto it = made_.rbegin(); it != made_.rend(); ++it) ::rmdir(it->c_str());
    made_.clear();
    return system_error(EOPNOTSUPP, "create cgroup", directory);
  }

  enum class Enabling : std::uint8_t {
    kNothing,
    kAsAsked,     ///< what the kernel allows below processes are threaded groups
    kUnoccupied,  ///< EBUSY there
  };

  Result<std::string> make_at(const std::string& base, const std::string& path, Enabling enabling) {
    std::string directory = base;
    std::size_t begin = 0;
    std::vector<std::string> new_here;
    ScopeExit undo([&] {
      for (auto it = new_here.rbegin(); it != new_here.rend(); ++it) ::rmdir(it->c_str());
    });
    while (begin < path.size()) {
      std::size_t end = std::min(path.find('/', begin), path.size());
      std::string name = path.substr(begin, end - begin);
      begin = end + 1;
      if (name.empty() || name == ".") continue;
      if (name == "..") return invalid_error("cgroup path", path, "must not have '..'");
      if (enabling != Enabling::kNothing) LAYERFS_TRY(enable(directory, enabling));
      directory += '/' + name;
      if (::mkdir(directory.c_str(), 0755) == 0) {
        new_here.push_back(directory);
        // The container's own users look into it, whatever the caller's umask.
        LAYERFS_TRY(set_mode(directory, 0755));
      } else if (errno != EEXIST) {
        return system_error(errno, "create cgroup", directory);
      }
      if (request_.cpuset && begin < path.size()) LAYERFS_TRY(inherit_cpuset(directory));
    }
    undo.release();
    made_.insert(made_.end(), new_here.begin(), new_here.end());
    return directory;
  }

  /// v2: children of `directory` may have the controllers.
  Result<void> enable(const std::string& directory, Enabling enabling) {
    if (!request_.unified || (request_.controllers.empty() && !request_.every_controller)) return {};
    LAYERFS_ASSIGN(std::string text, read_file(directory + "/cgroup.subtree_control", 4096));
    std::vector<std::string> enabled = words_of(text);
    auto is_missing = [&](const std::string& name) {
      return std::ranges::find(enabled, name) == enabled.end();
    };
    std::vector<std::string> needed;
    std::ranges::copy_if(request_.controllers, std::back_inserter(needed), is_missing);
    std::vector<std::string> others;
    if (request_.every_controller) {
      LAYERFS_ASSIGN(text, read_file(directory + "/cgroup.controllers", 4096));
      for (const auto& name : words_of(text))
        if (is_missing(name) && std::ranges::find(needed, name) == needed.end()) others.push_back(name);
    }
    if (needed.empty() && others.empty()) return {};
    if (is_occupied(directory)) {
      if (enabling == Enabling::kUnoccupied) return system_error(EBUSY, "enable controllers", directory);
      others.clear();
    }
    std::string file = directory + "/cgroup.subtree_control";
    std::string all;
    for (const auto* list : {&needed, &others})
      for (const auto& name : *list) all += '+' + name + ' ';
    if (all.empty()) return {};
    auto written = write_value(file, all);
    if (written || others.empty()) return written;
    // One is enough to make it refuse all: cpu, where a realtime process is in a group (cgroup-v2.rst).
    for (const auto& name : needed) LAYERFS_TRY(write_value(file, '+' + name));
    for (const auto& name : others)
      if (auto one = write_value(file, '+' + name); !one) log_debug("{}", one.error().message());
    return {};
  }

  static Result<void> inherit_cpuset(const std::string& directory) {
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
      LAYERFS_ASSIGN(std::string own, read_file(directory + file, 65536));
      if (own.find_first_not_of(" \n") != std::string::npos) continue;
      LAYERFS_ASSIGN(std::string inherited, read_file(parent_of(directory) + file, 65536));
      LAYERFS_TRY(write_value(directory + file, inherited));
    }
    return {};
  }

  const CgroupRequest& request_;
  const std::string& path_;
  std::vector<std::string> made_;
};

/// Children first. Returns 0 or the errno.
int remove_group(const std::string& directory) {
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return 0;
  int code = errno;
  if (code != EBUSY && code != ENOTEMPTY) return code;
  if (auto names = list_dir(directory)) {
    for (const auto& name : *names) {
      std::string child = directory + '/' + name;
      struct stat st;
      if (::lstat(child.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) remove_group(child);
    }
  }
  return ::rmdir(directory.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

/// A group for each request, or none.
template <class PathOf>
Result<CgroupDirs> make_all(const std::vector<CgroupRequest>& requests, PathOf path_of) {
  std::vector<std::string> all;
  std::vector<std::string> new_ones;
  auto make_one = [&](const CgroupRequest& request) -> Result<void> {
    LAYERFS_ASSIGN(std::string path, path_of(request));
    Maker maker(request, path);
    LAYERFS_ASSIGN(std::string made, maker.make());
    if (maker.has_made(made)) new_ones.push_back(made);
    all.push_back(made);
    return {};
  };
  for (const auto& request : requests) {
    auto made = make_one(request);
    if (made) continue;
    if (auto removed = CgroupDirs(new_ones).remove(); !removed) log_warning("{}", removed.error().message());
    return std::unexpected(made.error());
  }
  return CgroupDirs(all);
}

}  // namespace

Result<CgroupDirs> CgroupDirs::create(const std::vector<CgroupRequest>& requests, const std::string& path) {
  return make_all(requests, [&](const CgroupRequest&) { return Result<std::string>(path); });
}

Result<CgroupDirs> CgroupDirs::create_below(const std::vector<CgroupRequest>& requests,
                                            const std::string& name) const {
  return make_all(requests, [&](const CgroupRequest& request) -> Result<std::string> {
    const std::string* above = find_in(request);
    if (above == nullptr)
      return invalid_error("cgroup", name, "nothing above it in '" + request.mount_point + "'");
    return above->substr(request.mount_point.size()) + '/' + name;
  });
}

const std::string* CgroupDirs::find_in(const CgroupRequest& request) const {
  auto found = std::ranges::find_if(
      paths_, [&](const std::string& path) { return path.starts_with(request.mount_point + '/'); });
  return found == paths_.end() ? nullptr : &*found;
}

Result<void> CgroupDirs::update(const std::vector<CgroupRequest>& requests) const {
  for (const auto& request : requests) {
    if (request.settings.empty() && request.device_program.empty()) continue;
    const std::string* directory = find_in(request);
    if (directory == nullptr)
      return unsupported_error(
          "field", request.settings.empty() ? "linux.resources.devices" : request.settings.front().field,
          "the container has no group in '" + request.mount_point + "'");
    std::vector<const CgroupSetting*> again;
    for (const auto& setting : request.settings) {
      auto written = write_setting(*directory, setting);
      if (!written && written.error().code == EINVAL)
        again.push_back(&setting);
      else
        LAYERFS_TRY(written);
    }
    for (const auto* setting : again) LAYERFS_TRY(write_setting(*directory, *setting));
    LAYERFS_TRY(set_devices(*directory, request));
  }
  return {};
}

std::string CgroupDirs::text_of(const std::string& file) const {
  std::string all;
  for (const auto& path : paths_)
    if (auto text = read_file(path + '/' + file, std::size_t{1} << 20)) all += *text;
  return all;
}

Result<void> CgroupDirs::add(pid_t pid) const {
  for (const auto& path : paths_) {
    auto added = write_value(path + "/cgroup.procs", std::to_string(pid));
    if (!added && added.error().code == EOPNOTSUPP && type_of(path) == "domain invalid") {
      LAYERFS_TRY(make_threaded(path));
      added = write_value(path + "/cgroup.procs", std::to_string(pid));
    }
    if (!added) return with_context(added.error(), "join cgroup");
  }
  return {};
}

Result<std::vector<pid_t>> CgroupDirs::processes() const {
  std::vector<pid_t> list;
  if (!paths_.empty()) collect_processes(paths_.front(), list);
  return list;
}

Result<void> CgroupDirs::kill_all() const {
  bool is_done = false;
  for (const auto& path : paths_) {
    std::string file = path + "/cgroup.kill";
    if (!exists(file)) continue;
    auto written = write_value(file, "1");
    if (!written && written.error().code == EOPNOTSUPP) continue;  // a threaded group
    LAYERFS_TRY(written);
    is_done = true;
  }
  if (is_done) return {};
  constexpr int kRounds = 200;
  for (int i = 0; i < kRounds; ++i) {
    LAYERFS_ASSIGN(auto list, processes());
    if (list.empty()) return {};
    for (pid_t pid : list)
      if (::kill(pid, SIGKILL) != 0 && errno != ESRCH)
        return system_error(errno, "kill", std::to_string(pid));
    timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return {};
}

std::optional<std::uint64_t> CgroupDirs::out_of_memory_kills() const {
  for (const auto& path : paths_) {
    if (auto count = find_counter(path + "/memory.events", "oom_kill")) return count;
    if (auto count = find_counter(path + "/memory.oom_control", "oom_kill")) return count;
  }
  return std::nullopt;
}

Result<void> CgroupDirs::set_state(State state) const {
  for (const auto& path : paths_) {
    if (exists(path + "/cgroup.freeze")) {
      LAYERFS_TRY(write_value(path + "/cgroup.freeze", state == State::kFrozen ? "1" : "0"));
      for (int i = 0; state == State::kFrozen && i < 1000 && !is_frozen(); ++i) {
        timespec pause{0, 1'000'000};
        ::nanosleep(&pause, nullptr);
      }
      return {};
    }
    if (!exists(path + "/freezer.state")) continue;
    LAYERFS_TRY(write_value(path + "/freezer.state", state == State::kFrozen ? "FROZEN" : "THAWED"));
    // A v1 freezer may be FREEZING for a moment, and stays so where a process forks meanwhile: asked again.
    for (int i = 0; state == State::kFrozen && i < 1000 && !is_frozen(); ++i) {
      timespec pause{0, 1'000'000};
      ::nanosleep(&pause, nullptr);
      LAYERFS_TRY(write_value(path + "/freezer.state", "FROZEN"));
    }
    return {};
  }
  return unsupported_error("freeze", "", "the container has no group with a freezer");
}

bool CgroupDirs::is_frozen() const {
  for (const auto& path : paths_) {
    if (auto text = read_file(path + "/freezer.state", 64)) return text->starts_with("FROZEN");
    if (auto frozen = find_counter(path + "/cgroup.events", "frozen")) return *frozen == 1;
  }
  return false;
}

void CgroupDirs::take_from_freezers(pid_t pid) const {
  for (const auto& path : paths_) {
    if (!exists(path + "/freezer.state")) continue;
    if (auto moved = write_value(path + "/cgroup.procs", std::to_string(pid)); !moved)
      log_debug("{}", moved.error().message());
  }
}

Result<void> CgroupDirs::remove() const {
  Result<void> result;
  for (const auto& path : paths_) {
    int code = remove_group(path);
    // A process that was reaped may be in its group for some microseconds more, and cgroups have no way to
    // wait for that on v1: a few tries, one second at most.
    for (int i = 0; code == EBUSY && i < 40; ++i) {
      timespec pause{0, i < 10 ? 1'000'000L : 30'000'000L};
      ::nanosleep(&pause, nullptr);
      code = remove_group(path);
    }
    if (code != 0 && result) result = system_error(code, "remove cgroup", path);
  }
  return result;
}

}  // namespace layerfs::sys
