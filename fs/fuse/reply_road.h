// SPDX-License-Identifier: Apache-2.0
// How replies leave, where libfuse lets us say so (fuse_session_custom_io()): to the ring that the request
// came by, else to the device. Used for sessions that ask for io_uring only.
#pragma once

#include "fs/base/fd.h"
#include "fs/fuse/adapter.h"
#include "fs/fuse/libfuse.h"

namespace layerfs::fuse {

/// Gives `session` the mounted `device` and these roads; sets Adapter::routes_replies. Where libfuse was
/// built without the function, `device` stays the caller's and nothing has changed. Requires: `adapter` is
/// the session's user data.
void route_replies(fuse_session* session, Adapter& adapter, Fd& device);

}  // namespace layerfs::fuse
