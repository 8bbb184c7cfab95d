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
  bool noatime = false;
  bool io_uring = false;
  bool operator==(const MountFlags&) const = default;
};

/// Applies a comma-separated list (mount(8)'s names: ro, rw, suid, nosuid, dev, nodev, noatime, atime,
/// allow_other, volatile, io_uring) over `flags`; the last of two that disagree counts, an empty item is
/// passed over. Errors: kInvalid naming the option.
Result<MountFlags> apply_mount_options(MountFlags flags, std::string_view list);

/// How many ids a /proc/PID/uid_map (user_namespaces(7)) maps. Lines that are not understood count nothing.
unsigned long long mapped_ids(std::string_view id_map);

/// Root with more than one id sees the tree's ids; root of a namespace of one id sees its own everywhere; an
/// ordinary user sees id 0 as its own.
fuse::IdView choose_id_view(unsigned uid, unsigned gid, unsigned long long mapped);
fuse::IdView current_id_view();

}  // namespace layerfs::mount
