// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_options.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <sstream>

#include "fs/base/sys_file.h"

namespace layerfs::mount {
namespace {

struct Option {
  std::string_view name;
  bool MountFlags::* flag;
  bool value;
};

constexpr Option kOptions[] = {
    {"ro", &MountFlags::read_only, true},
    {"rw", &MountFlags::read_only, false},
    {"suid", &MountFlags::suid, true},
    {"nosuid", &MountFlags::suid, false},
    {"dev", &MountFlags::dev, true},
    {"nodev", &MountFlags::dev, false},
    {"allow_other", &MountFlags::allow_other, true},
    {"volatile", &MountFlags::is_volatile, true},
    {"io_uring", &MountFlags::io_uring, true},
};

/// MS_NOSYMFOLLOW of <linux/mount.h> (Linux 5.10), which the libraries' headers may lack.
constexpr unsigned long kNoSymlinkFollowing = 256;

struct KernelOption {
  std::string_view name;
  unsigned long clear;
  unsigned long set;
};
constexpr unsigned long kAccessTimes = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr KernelOption kKernelOptions[] = {
    {"exec", MS_NOEXEC, 0},
    {"noexec", 0, MS_NOEXEC},
    {"noatime", kAccessTimes, MS_NOATIME},
    {"relatime", kAccessTimes, MS_RELATIME},
    {"norelatime", MS_RELATIME, 0},
    {"strictatime", kAccessTimes, MS_STRICTATIME},
    {"nostrictatime", MS_STRICTATIME, 0},
    {"lazytime", 0, MS_LAZYTIME},
    {"nolazytime", MS_LAZYTIME, 0},
    {"diratime", MS_NODIRATIME, 0},
    {"nodiratime", 0, MS_NODIRATIME},
    {"async", MS_SYNCHRONOUS, 0},
    {"sync", 0, MS_SYNCHRONOUS},
    {"dirsync", 0, MS_DIRSYNC},
    {"symfollow", kNoSymlinkFollowing, 0},
    {"nosymfollow", 0, kNoSymlinkFollowing},
};

/// What changes nothing: what mount(8) and fstab(5) say to others than a file system, what is so anyway, and names
/// that layerfs gives itself.
bool is_for_others(std::string_view item) {
  constexpr std::string_view kWords[] = {"defaults", "auto",    "noauto",  "user",   "nouser",    "users",
                                         "owner",    "group",   "nofail",  "silent", "loud",      "_netdev",
                                         "noowner",  "nousers", "nogroup", "nomand", "noiversion"};
  constexpr std::string_view kBeginnings[] = {"fsname=", "subtype=", "comment=", "x-", "X-"};
  return std::ranges::find(kWords, item) != std::end(kWords) ||
         std::ranges::any_of(kBeginnings, [&](std::string_view begins) { return item.starts_with(begins); });
}

/// False where there is no such option.
bool apply_one(MountFlags& flags, std::string_view item) {
  for (const Option& option : kOptions) {
    if (option.name != item) continue;
    flags.*option.flag = option.value;
    return true;
  }
  for (const KernelOption& option : kKernelOptions) {
    if (option.name != item) continue;
    flags.mount_flags = (flags.mount_flags & ~option.clear) | option.set;
    return true;
  }
  return is_for_others(item);
}

}  // namespace

Result<MountFlags> apply_mount_options(MountFlags flags, std::string_view list) {
  while (!list.empty()) {
    std::size_t comma = list.find(',');
    std::string_view item = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    if (item.empty()) continue;
    if (item == "atime") return invalid_error("mount option", item, "reading moves no times here");
    if (!apply_one(flags, item)) return invalid_error("mount option", item, "not known");
  }
  return flags;
}

unsigned long long mapped_ids(std::string_view id_map) {
  std::istringstream lines{std::string(id_map)};
  unsigned long long total = 0;
  unsigned long long inside = 0;
  unsigned long long outside = 0;
  unsigned long long count = 0;
  while (lines >> inside >> outside >> count) total += count;
  return total;
}

fuse::IdView choose_id_view(unsigned uid, unsigned gid, unsigned long long mapped) {
  return {.squash_root = uid != 0, .squash_all = uid == 0 && mapped <= 1, .uid = uid, .gid = gid};
}

fuse::IdView current_id_view() {
  auto map = read_file("/proc/self/uid_map");
  // Without the file there are no user namespaces, and all ids are there.
  return choose_id_view(::geteuid(), ::getegid(), map ? mapped_ids(*map) : ~0ULL);
}

}  // namespace layerfs::mount
