// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_table.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "fs/base/sys_file.h"

namespace layerfs::mount {
namespace {

Result<std::vector<MountEntry>> read_table(const std::string& process) {
  LAYERFS_ASSIGN(std::string text, read_file("/proc/" + process + "/mountinfo"));
  return parse_mount_info(text);
}

}  // namespace

bool is_ours(const MountEntry& entry) { return entry.type == kMountType; }

std::string_view source_name(const MountEntry& entry) {
  std::string_view text = entry.source;
  if (text.starts_with(kSourcePrefix)) text.remove_prefix(kSourcePrefix.size());
  return text;
}

Result<std::vector<MountEntry>> list_mounts(std::optional<int> pid) {
  LAYERFS_ASSIGN(auto entries, read_table(pid ? std::to_string(*pid) : "self"));
  std::erase_if(entries, [](const MountEntry& entry) { return !is_ours(entry); });
  return entries;
}

Result<std::optional<MountEntry>> find_mount(std::string_view path) {
  LAYERFS_ASSIGN(auto entries, read_table("self"));
  // A later one covers what was there.
  auto found = std::ranges::find(entries.rbegin(), entries.rend(), path, &MountEntry::path);
  if (found == entries.rend() || !is_ours(*found)) return std::nullopt;
  return std::move(*found);
}

namespace {

/// The process's user namespace is this process's, or was made by its user (ioctl_ns(2)).
bool is_of_own_user(int pid) {
  auto theirs = open_file("/proc/" + std::to_string(pid) + "/ns/user", O_RDONLY);
  auto own = open_file("/proc/self/ns/user", O_RDONLY);
  if (!theirs || !own) return false;
  auto their_place = stat_fd(theirs->get());
  auto own_place = stat_fd(own->get());
  if (!their_place || !own_place) return false;
  if (their_place->st_ino == own_place->st_ino && their_place->st_dev == own_place->st_dev) return true;
  uid_t owner = 0;
  return ::ioctl(theirs->get(), NS_GET_OWNER_UID, &owner) == 0 && owner == ::geteuid();
}

/// The first that `wanted` wants in the mount namespaces of all processes.
template <class Wanted>
std::optional<HeldMount> find_anywhere(Wanted wanted) {
  auto names = list_dir("/proc");
  if (!names) return std::nullopt;
  for (const std::string& name : *names) {
    int pid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    auto entries = list_mounts(pid);
    if (!entries) continue;  // it ended, or is another user's
    for (MountEntry& entry : *entries)
      if (wanted(entry, pid)) return HeldMount{pid, std::move(entry)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> find_holder(const MountEntry& entry) {
  auto held = find_anywhere([&](const MountEntry& other, int) {
    return other.device_major == entry.device_major && other.device_minor == entry.device_minor &&
           other.source == entry.source;
  });
  return held ? std::optional(held->pid) : std::nullopt;
}

std::optional<HeldMount> find_held(std::string_view source) {
  return find_anywhere(
      [&](const MountEntry& entry, int pid) { return entry.source == source && is_of_own_user(pid); });
}

}  // namespace layerfs::mount
