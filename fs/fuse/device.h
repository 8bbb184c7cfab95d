// SPDX-License-Identifier: Apache-2.0
// Opening /dev/fuse and mounting it: by mount(2) where this process may, else by the set-user-ID fusermount3,
// whose protocol is one environment variable and one descriptor over a unix socket (fusermount3(1),
// libfuse's util/fusermount.c). Without libfuse's own mounting, so that errors are values and not lines
// that a library prints.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/fuse/fuse_server.h"

namespace layerfs::fuse {

/// Mounts and returns the connection's descriptor. The kernel holds requests back until INIT is answered.
/// Errors: ENOENT, ENOTDIR (mountpoint), EPERM, EACCES, ENODEV (no FUSE), fusermount3's message.
Result<Fd> mount_device(const std::string& mountpoint, const FuseOptions& options);

enum class UnmountMode : std::uint8_t { kNow, kLazy };
/// Errors: EBUSY, EINVAL (nothing is mounted there), EPERM.
Result<void> unmount_path(const std::string& mountpoint, UnmountMode mode);

}  // namespace layerfs::fuse
