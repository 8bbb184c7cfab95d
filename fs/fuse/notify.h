// SPDX-License-Identifier: Apache-2.0
// What a server says to the kernel by itself, on a bare device, because it is asked and said where no session
// may be: while a mount is taken over, and after its session was closed. KEEPER.md has why.
#pragma once

#include <string_view>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/tree/node.h"

namespace layerfs::fuse {

/// FUSE_HAS_RESEND among the flags of an INIT message (Linux 6.9).
bool kernel_resends(std::string_view init_message);

/// Has every request that was read and not answered sent again. Errors: EINVAL (before Linux 6.9), ENODEV
/// (unmounted).
Result<void> ask_to_resend(int device);

/// False only where the kernel has no inode of this number, so that no FORGET of it will come. The inode's
/// attributes are asked for again; its pages stay.
bool kernel_holds(int device, tree::Ino ino);

/// Another descriptor of the same connection, with requests of its own. Errors: EACCES where /dev/fuse is not
/// for this user.
Result<Fd> clone_device(int device);

Result<Fd> duplicate(int fd);

}  // namespace layerfs::fuse
