// SPDX-License-Identifier: Apache-2.0
// Options of a mount ("ro", "nosuid", "rbind", "rslave", "rro", "size=64m"...) as the flags that the kernel
// takes. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "runtime/spec/container_spec.h"

namespace layerfs::plan {

/// Ids of the source become others in the mount.
enum class IdMapOption : std::uint8_t {
  kNone,
  kTop,   ///< idmap: of the mount, not of those below it
  kTree,  ///< ridmap
};

/// One of "uids=0-1-10#@10-11-10": from the ids of the source to those of the mount.
struct OptionIdMapping {
  spec::IdMapping mapping;
  bool relative = false;  ///< '@': the id of the mount is one of the container's user namespace
  bool operator==(const OptionIdMapping&) const = default;
};

struct MountOptions {
  unsigned long set_flags = 0;    ///< MS_* to set
  unsigned long clear_flags = 0;  ///< MS_* that a bind mount must lose
  bool bind = false;
  bool recursive = false;  ///< rbind
  bool copy_up = false;    ///< tmpcopyup: the tmpfs begins with what it covers
  IdMapOption id_map = IdMapOption::kNone;
  std::vector<OptionIdMapping> uid_map;  ///< of "idmap=uids=..."; empty: not told
  std::vector<OptionIdMapping> gid_map;
  std::uint64_t recursive_set = 0;  ///< MOUNT_ATTR_* for the whole tree (mount_setattr(2), AT_RECURSIVE)
  std::uint64_t recursive_clear = 0;
  std::vector<spec::Propagation> propagation;  ///< in order
  std::string data;  ///< what is left, for the file system itself: "mode=755,size=65536k"
  bool operator==(const MountOptions&) const = default;
};

/// "idmap=uids=0-1-10#10-11-10;gids=0-100-10" is crun's (crun(1), "idmap mount options"), which Podman passes
/// on. An unknown option goes to the file system.
Result<MountOptions> parse_mount_options(const std::vector<std::string>& options, std::string_view type);

/// Every option that is not left to the file system, sorted: what `features` lists.
std::vector<std::string> known_mount_options();

}  // namespace layerfs::plan
