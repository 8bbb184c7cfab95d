// SPDX-License-Identifier: Apache-2.0
// The layerfs mounts of a mount namespace, as /proc/PID/mountinfo tells them (fs/base/mount_info.h). Reading that
// file never touches the mounts themselves.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/mount_info.h"
#include "fs/base/result.h"

namespace layerfs::mount {

/// What comes before the name in a mount's source.
inline constexpr std::string_view kSourcePrefix = "layerfs:";
inline constexpr std::string_view kMountType = "fuse.layerfs";

/// The entry is of type fuse.layerfs. Its source is "layerfs:<upper's id>", or without an upper
/// "layerfs:<chain, shortened>.<store>".
bool is_ours(const MountEntry& entry);
/// The source without its prefix.
std::string_view source_name(const MountEntry& entry);
/// Ours, in the order of the file: a later one lies over an earlier one of the same path. With `pid` those that
/// that process sees. Errors: those of reading /proc/PID/mountinfo.
Result<std::vector<MountEntry>> list_mounts(std::optional<int> pid = std::nullopt);
/// A process in whose mount namespace the same file system is mounted: one with the device number and the source
/// of `entry`, since the kernel gives the number of a file system that is gone to the next one. nullopt: none was
/// found; the processes of other users cannot be looked at without privilege.
std::optional<int> find_holder(const MountEntry& entry);
/// A process that has a mount from `source` in its mount namespace, and that mount. Processes of user namespaces that
/// are neither this process's own nor made by its user are passed over: anybody may mount under any source in one of
/// theirs.
struct HeldMount {
  int pid = 0;
  MountEntry entry;
};
std::optional<HeldMount> find_held(std::string_view source);
/// The topmost mount at exactly `path` (absolute, without links); nullopt where it is not ours.
Result<std::optional<MountEntry>> find_mount(std::string_view path);

}  // namespace layerfs::mount
