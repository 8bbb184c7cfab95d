// SPDX-License-Identifier: Apache-2.0
// The volume option U (podman-run(1)): a volume becomes its container's user's.
#pragma once

#include <sys/types.h>

#include "fs/base/result.h"

namespace layerfs::container {

/// Gives the file `top_fd` (O_PATH will do), and where it is a directory all below it, to that user and group.
/// What is theirs already is left alone. Links are not followed: one becomes theirs, not what it names.
/// Errors: ESTALE where a directory is moved meanwhile; those of the calls, with the path below `top_fd`
/// named: EPERM for an owner that is not mapped in this user namespace. What was done until then stays.
Result<void> own_tree(int top_fd, uid_t uid, gid_t gid);

}  // namespace layerfs::container
