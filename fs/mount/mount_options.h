// SPDX-License-Identifier: Apache-2.0
// The -o options of `layerfs mount`, and the view of ids that fits whoever mounts. Pure but for
// current_id_view().
#pragma once

#include <string>
#include <string_view>

#include "fs/base/result.h"
#include "fs/fuse/fuse_server.h"

namespace layerfs::mount {

struct MountFlags {
  bool read_only = false;
  bool is_volatile = false;
  bool allow_other = false;
  bool suid = false;
  bool dev = false;
  bool io_uring = false;
  unsigned long mount_flags = 0;  ///< further flags of mount(2)
  bool operator==(const MountFlags&) const = default;
};

/// Applies a comma-separated list over `flags`; the last of two that disagree counts, an empty item is passed
/// over. Besides our own (volatile, io_uring) it takes what mount(8) and fstab(5) have for every file system,
/// allow_other, and fsname= and subtype= of mount.fuse3(8), which change nothing: the source of a mount is
/// what layerfs knows it by. `atime` is refused, for reading moves no times here. Errors: kInvalid naming the
/// option.
Result<MountFlags> apply_mount_options(MountFlags flags, std::string_view list);

/// How many ids a /proc/PID/uid_map (user_namespaces(7)) maps. Lines that are not understood count nothing.
unsigned long long mapped_ids(std::string_view id_map);

/// Root with more than one id sees the tree's ids; root of a namespace of one id sees its own everywhere; an
/// ordinary user sees id 0 as its own.
fuse::IdView choose_id_view(unsigned uid, unsigned gid, unsigned long long mapped);
fuse::IdView current_id_view();

}  // namespace layerfs::mount
