// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/mount_options.h"

#include <unistd.h>

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
    {"noatime", &MountFlags::noatime, true},
    {"atime", &MountFlags::noatime, false},
    {"allow_other", &MountFlags::allow_other, true},
    {"volatile", &MountFlags::is_volatile, true},
    {"io_uring", &MountFlags::io_uring, true},
};

}  // namespace

Result<MountFlags> apply_mount_options(MountFlags flags, std::string_view list) {
  while (!list.empty()) {
    std::size_t comma = list.find(',');
    std::string_view item = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    if (item.empty()) continue;
    bool known = false;
    for (const Option& option : kOptions) {
      if (option.name != item) continue;
      flags.*option.flag = option.value;
      known = true;
    }
    if (!known) return invalid_error("mount option", item, "not known");
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
