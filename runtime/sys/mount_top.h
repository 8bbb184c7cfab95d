// SPDX-License-Identifier: Apache-2.0
// The mounts at a path of the caller's mount namespace: which one is seen, and letting go of those above one.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/result.h"

namespace layerfs::sys {

/// The id of the mount that `path` is on. Errors: those of statx(2); kUnsupported before Linux 5.8.
Result<std::uint64_t> mount_id(const std::string& path);
/// Detaches (umount2(2), MNT_DETACH) what was mounted on `path`, and on that again, above the mount `base`, with
/// all that is below, also where it is in use. Nothing else is touched, whatever `path` leads to by now. False
/// where nothing was there. `path`: absolute and without links. Errors: ELOOP, ENOENT..., where `path` is not what
/// it was; EBUSY, where something else covers it.
Result<bool> detach_above(const std::string& path, std::uint64_t base);

}  // namespace layerfs::sys
