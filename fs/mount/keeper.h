// SPDX-License-Identifier: Apache-2.0
// The keeper: a process that starts a mount's server, waits, and starts another when it dies. KEEPER.md.
#pragma once

#include <string>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/mount/mount.h"

namespace layerfs::mount {

/// Mounts and keeps the mount alive; returns when it is unmounted, or when it was given up. `ready` is told
/// whether the mount answers (server_process.h). Requires: prepare_server_process(), a single-threaded caller
/// without an open Store.
Result<Served> keep_mount(const MountRequest& request, const std::string& mountpoint, Fd ready);

}  // namespace layerfs::mount
