// SPDX-License-Identifier: Apache-2.0
// The uppermost mount at a path of the caller's mount namespace: which one it is, and letting go of it.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/result.h"

namespace layerfs::sys {

/// The id of the mount that `path` is on. Errors: those of statx(2); kUnsupported before Linux 5.8.
Result<std::uint64_t> mount_id(const std::string& path);
/// umount2(2) with MNT_DETACH: the mount at `path` goes with all that are below it, also where it is in use.
Result<void> detach_mount(const std::string& path);

}  // namespace layerfs::sys
