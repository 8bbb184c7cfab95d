// SPDX-License-Identifier: Apache-2.0
// The mount option tmpcopyup: a new tmpfs starts with what was in the directory that it covers.
#pragma once

#include "fs/base/result.h"

namespace layerfs::container {

/// Copies the tree below `from_fd` into the empty directory `to_fd`: entries of every kind with their owners,
/// modes, extended attributes and times, and those of the directory itself. Links are not followed, and a
/// hard link becomes a file of its own. An owner that is not mapped here stays the caller's. Capabilities of
/// files are left out on a mount with nosuid, where they mean nothing. Devices are left out where they cannot
/// be made, and where they worked only in the copy, because it alone is on a mount without nodev: what an
/// image calls a device is no more than a name there. Errors: ESTALE where the tree is changed meanwhile;
/// those of the calls, with the path named.
Result<void> copy_into_tmpfs(int from_fd, int to_fd);

}  // namespace layerfs::container
