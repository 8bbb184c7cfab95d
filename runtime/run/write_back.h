// SPDX-License-Identifier: Apache-2.0
// What the kernel holds of a live mount and its server has not seen yet: pages that were changed through
// shared mappings (mmap(2)) come only with a write-back. syncfs(2) on the mount asks for one, from wherever
// the mount can be reached: here, in the container that has it as its root, or in some other mount namespace.
#pragma once

#include <string>

#include "fs/base/result.h"

namespace layerfs::run {

/// Has the kernel write back what it holds of the mount of that upper or container; nothing where there is no
/// such mount. Requires: a single-threaded caller. Errors: those of reaching the mount, and of writing.
Result<void> write_back(const std::string& store_root, const std::string& id);

}  // namespace layerfs::run
