// SPDX-License-Identifier: Apache-2.0
#include "runtime/sys/recording_syscalls.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <deque>

#include "fs/base/check.h"
#include "fs/base/sys_file.h"

namespace layerfs::sys {

namespace {

std::string attributes_text(const BindAttributes& attributes) {
  std::string text;
  if (attributes.recursive) text += " recursive";
  if (attributes.set != 0) text += fmt::format(" set={:#x}", attributes.set);
  if (attributes.clear != 0) text += fmt::format(" clear={:#x}", attributes.clear);
  if (attributes.recursive_set != 0) text += fmt::format(" rset={:#x}", attributes.recursive_set);
  if (attributes.recursive_clear != 0) text += fmt::format(" rclear={:#x}", attributes.recursive_clear);
  for (unsigned long flags : attributes.propagation) text += fmt::format(" propagation={:#x}", flags);
  return text;
}

void push_components(std::deque<std::string>& to, const std::string& path) {
  std::deque<std::string> list;
  std::size_t begin = 0;
  while (begin < path.size()) {
    std::size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) list.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  to.insert(to.begin(), list.begin(), list.end());
}

}  // namespace

void RecordingSyscalls::add(const std::string& path, Entry entry) {
  std::size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash > 0) add_dir(path.substr(0, slash));
  entries[path] = std::move(entry);
}

void RecordingSyscalls::add_dir(const std::string& path, long fs_type) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    entries.try_emplace(path.substr(0, slash));
    if (slash == std::string::npos) break;
  }
  if (fs_type != 0) entries[path].fs_type = fs_type;
}

Result<void> RecordingSyscalls::record(const std::string& line) {
  log.push_back(line);
  for (const auto& [prefix, code] : failures)
    if (line.starts_with(prefix)) return system_error(code, "");
  return {};
}

const std::string& RecordingSyscalls::name_of(int fd) const {
  static const std::string kHost;
  if (fd == AT_FDCWD) return kHost;
  auto found = names_.find(fd);
  LAYERFS_CHECK(found != names_.end());
  return found->second;
}

Result<std::string> RecordingSyscalls::resolve(const std::string& root, const std::string& path, int flags) {
  std::deque<std::string> rest;
  push_components(rest, path);
  std::vector<std::string> stack;
  int links = 0;
  auto joined = [&] {
    std::string text = root;
    for (const auto& name : stack) text += '/' + name;
    return text;
  };
  while (!rest.empty()) {
    std::string name = rest.front();
    rest.pop_front();
    if (name == ".") continue;
    if (name == "..") {
      if (!stack.empty()) stack.pop_back();
      continue;
    }
    stack.push_back(name);
    auto found = entries.find(joined());
    bool is_link = found != entries.end() && S_ISLNK(found->second.mode);
    if (!is_link || (rest.empty() && (flags & O_NOFOLLOW) != 0)) continue;
    if (++links > 40) return system_error(ELOOP, "open", path);
    stack.pop_back();
    if (found->second.content.starts_with('/')) stack.clear();
    push_components(rest, found->second.content);
  }
  return joined();
}

Result<Fd> RecordingSyscalls::open_named(const std::string& path, int flags) {
  std::string name = path.empty() ? "/" : path;
  if ((flags & O_CREAT) != 0) {
    if (entries.contains(name)) return system_error(EEXIST, "open", name);
    LAYERFS_TRY(record("create " + name));
    entries[name].mode = S_IFREG | 0644;
  } else if (!entries.contains(name)) {
    return system_error(ENOENT, "open", name);
  }
  LAYERFS_ASSIGN(Fd fd, layerfs::open_file("/dev/null", O_PATH));
  names_[fd.get()] = name;
  return fd;
}

Result<Fd> RecordingSyscalls::open_in_root(int root_fd, const std::string& path, int flags, mode_t /*mode*/) {
  std::string root = name_of(root_fd);
  if (root == "/") root.clear();
  LAYERFS_ASSIGN(std::string name, resolve(root, path, flags));
  return open_named(name, flags);
}

Result<Fd> RecordingSyscalls::open_path(const std::string& path, int flags) {
  if (!unreachable.empty() && path.starts_with(unreachable)) return system_error(EACCES, "open", path);
  LAYERFS_ASSIGN(std::string name, resolve("", path, flags));
  return open_named(name, flags);
}

Result<Fd> RecordingSyscalls::open_at(int dir_fd, const std::string& name, int flags, mode_t /*mode*/) {
  return open_named(name_of(dir_fd) + '/' + name, flags);
}

Result<void> RecordingSyscalls::make_dir_at(int dir_fd, const std::string& name, mode_t /*mode*/) {
  std::string path = name_of(dir_fd) + '/' + name;
  if (entries.contains(path)) return system_error(EEXIST, "create directory", name);
  LAYERFS_TRY(record("mkdir " + path));
  entries[path] = {};
  return {};
}

Result<void> RecordingSyscalls::make_node_at(int dir_fd, const std::string& name, mode_t mode,
                                             std::uint64_t rdev) {
  std::string path = name_of(dir_fd) + '/' + name;
  if (entries.contains(path)) return system_error(EEXIST, "create node", name);
  LAYERFS_TRY(record(fmt::format("mknod {} {:o} {:#x}", path, mode, rdev)));
  entries[path] = {mode, rdev, {}, 0};
  return {};
}

Result<void> RecordingSyscalls::make_link_at(const std::string& target, int dir_fd, const std::string& name) {
  std::string path = name_of(dir_fd) + '/' + name;
  if (entries.contains(path)) return system_error(EEXIST, "create link", name);
  LAYERFS_TRY(record("symlink " + path + " -> " + target));
  entries[path] = {S_IFLNK | 0777, 0, target, 0};
  return {};
}

Result<std::string> RecordingSyscalls::read_link_at(int dir_fd, const std::string& name) {
  std::string path = name.empty() ? name_of(dir_fd) : name_of(dir_fd) + '/' + name;
  auto found = entries.find(path);
  if (found == entries.end()) return system_error(ENOENT, "read link", path);
  return found->second.content;
}

Result<void> RecordingSyscalls::set_owner_at(int dir_fd, const std::string& name, uid_t uid, gid_t gid,
                                             mode_t mode) {
  return record(fmt::format("chown {}/{} {}:{} {:o}", name_of(dir_fd), name, uid, gid, mode & 07777));
}

Result<void> RecordingSyscalls::set_xattr(int fd, const std::string& name, std::string_view value) {
  return record(fmt::format("setxattr {} {}={}", name_of(fd), name, value));
}

Result<struct stat> RecordingSyscalls::stat_fd(int fd) {
  auto found = entries.find(name_of(fd));
  if (found == entries.end()) return system_error(ENOENT, "stat");
  struct stat st{};
  st.st_mode = found->second.mode;
  st.st_rdev = found->second.rdev;
  return st;
}

Result<FsFacts> RecordingSyscalls::fs_facts(int fd) {
  std::string path = name_of(fd);
  for (;;) {
    auto found = entries.find(path);
    if (found != entries.end() && found->second.fs_type != 0) return FsFacts{found->second.fs_type, 0};
    std::size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) return FsFacts{};
    path.erase(slash);
  }
}

Result<void> RecordingSyscalls::write_all(int fd, std::string_view text) {
  return record("write " + name_of(fd) + " " + std::string(text));
}

Result<std::string> RecordingSyscalls::read_all(int fd, std::size_t limit) {
  const std::string& content = entries[name_of(fd)].content;
  if (content.size() > limit) return invalid_error("read", "", "too long");
  return content;
}

Result<void> RecordingSyscalls::mount_on(int target_fd, const MountCall& call) {
  return record(fmt::format("mount {} on {} flags={:#x}{}{}", call.type, name_of(target_fd), call.flags,
                            call.data.empty() ? "" : " ", call.data));
}

Result<Fd> RecordingSyscalls::make_procfs() {
  LAYERFS_TRY(record("make procfs"));
  return open_path("/proc", O_PATH);
}

Result<void> RecordingSyscalls::bind_on(int target_fd, int source_fd, const BindAttributes& attributes) {
  return record("bind " + name_of(source_fd) + " on " + name_of(target_fd) + attributes_text(attributes));
}

Result<void> RecordingSyscalls::attach_on(int target_fd, int tree_fd, const BindAttributes& attributes) {
  return record("attach " + name_of(tree_fd) + " on " + name_of(target_fd) + attributes_text(attributes));
}

Result<void> RecordingSyscalls::change_mount(int fd, const BindAttributes& attributes) {
  return record("change " + name_of(fd) + attributes_text(attributes));
}

Result<void> RecordingSyscalls::isolate(int fd) { return record("isolate " + name_of(fd)); }

Result<void> RecordingSyscalls::set_propagation(const std::string& path, unsigned long flags) {
  return record(fmt::format("propagation {} {:#x}", path, flags));
}

Result<void> RecordingSyscalls::pivot_to_current() { return record("pivot"); }
Result<void> RecordingSyscalls::move_to_root() { return record("move to root"); }
Result<void> RecordingSyscalls::chroot_to_current() { return record("chroot"); }
Result<void> RecordingSyscalls::change_dir_fd(int fd) { return record("chdir " + name_of(fd)); }
Result<void> RecordingSyscalls::change_dir(const std::string& path) { return record("chdir " + path); }
Result<void> RecordingSyscalls::unshare(int flags) { return record(fmt::format("unshare {:#x}", flags)); }
Result<void> RecordingSyscalls::set_hostname(const std::string& name) { return record("hostname " + name); }
Result<void> RecordingSyscalls::set_domainname(const std::string& name) {
  return record("domainname " + name);
}
Result<void> RecordingSyscalls::loopback_up() { return record("loopback up"); }
Result<void> RecordingSyscalls::new_session() { return record("setsid"); }
Result<void> RecordingSyscalls::set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard) {
  return record(fmt::format("rlimit {} {} {}", resource, soft, hard));
}

}  // namespace layerfs::sys
