// SPDX-License-Identifier: Apache-2.0
// tmpcopyup: a tmpfs that begins with a copy of the directory that it covers.
#pragma once

#include "fs/base/result.h"

namespace layerfs::container {

/// Copies what is in `from_fd` into `to_fd`: directories, regular files and links with their modes and
/// owners. Other kinds are left out. Errors: ENOSPC, EACCES...
Result<void> copy_into_tmpfs(int from_fd, int to_fd);

}  // namespace layerfs::container
