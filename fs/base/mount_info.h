// SPDX-License-Identifier: Apache-2.0
// The text of /proc/PID/mountinfo (proc(5)) as values: the one parser of it. Pure; any thread.
//
// (1) Total: a line of another form is passed over, and no line is taken for what it is not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace layerfs {

/// One mount. Texts are plain: what the kernel writes as \040 is a blank.
struct MountEntry {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::string root;     ///< the directory of the file system that is mounted
  std::string path;     ///< the mount point, as the reading process sees it
  std::string options;  ///< of this mount, "rw,nosuid,..."
  std::string type;     ///< "ext4", "fuse.layerfs"
  std::string source;   ///< may be empty
  std::string super_options;
  bool operator==(const MountEntry&) const = default;
};

/// In the order of the file: a later one lies over an earlier one of the same path.
std::vector<MountEntry> parse_mount_info(std::string_view text);

}  // namespace layerfs
