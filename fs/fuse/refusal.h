// SPDX-License-Identifier: Apache-2.0
// The least that a mount without a server can get: an answer to every request, the same to all.
#pragma once

#include "fs/base/result.h"

namespace layerfs::fuse {

/// Answers what the kernel asks on `device` with errno `code`, first what an earlier server read and left
/// unanswered. Returns when nothing more will come (unmounted) or `end` can be read. Errors: those of read(2)
/// and write(2). Requires: no session of this process reads the device.
Result<void> refuse_requests(int device, int code, int end);

}  // namespace layerfs::fuse
