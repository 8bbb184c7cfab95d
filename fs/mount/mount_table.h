// SPDX-License-Identifier: Apache-2.0
// The layerfs mounts of this mount namespace, as /proc/self/mountinfo (proc(5)) tells them. Reading that file
// never touches the mounts themselves.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

namespace layerfs::mount {

/// What comes before the name in a mount's source.
inline constexpr std::string_view kSourcePrefix = "layerfs:";
inline constexpr std::string_view kMountType = "fuse.layerfs";

struct MountEntry {
  std::string path;
  std::string source;   ///< "layerfs:<upper's id>", or "layerfs:<chain, shortened>.<store>" without an upper
  std::string options;  ///< of the mount point, "rw,nosuid,..."
  unsigned device_major = 0;
  unsigned device_minor = 0;
  bool operator==(const MountEntry&) const = default;

  /// The source without its prefix.
  std::string_view name() const;
};

/// The entries of type fuse.layerfs, in the order of the file: a later one lies over an earlier one of the
/// same path. Lines that are not understood are passed over.
std::vector<MountEntry> parse_mount_table(std::string_view mountinfo);
/// Errors: those of reading /proc/self/mountinfo.
Result<std::vector<MountEntry>> list_mounts();
/// A process in whose mount namespace the same file system is mounted: the device number alone would be that
/// of the next one, once this one is gone. nullopt where none is seen, which without rights to look at the
/// others' means little.
std::optional<int> find_holder(const MountEntry& entry);
/// What such a process sees of the mounts from a source. Processes of user namespaces that are neither this
/// process's own nor made by its user are passed over: anybody may mount under any source in one of theirs.
struct HeldMount {
  int pid = 0;
  MountEntry entry;
};
std::optional<HeldMount> find_held(std::string_view source);
/// The topmost mount at exactly `path` (absolute, without links); nullopt where it is not ours.
Result<std::optional<MountEntry>> find_mount(std::string_view path);

}  // namespace layerfs::mount
