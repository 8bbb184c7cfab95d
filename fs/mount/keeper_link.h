// SPDX-License-Identifier: Apache-2.0
// KeeperLink: the socket from a server to the process that keeps its mount alive. Datagrams: a Handover once
// the first server answers, an empty one once a later one has taken over. Its end of file is the server's
// death.
#pragma once

#include <optional>
#include <utility>

#include "fs/base/fd.h"
#include "fs/base/result.h"
#include "fs/fuse/fuse_server.h"

namespace layerfs::mount {

/// The keeper's end and the server's.
Result<std::pair<Fd, Fd>> make_keeper_link();

/// Tells the keeper that the server answers. The first server gives what the next one needs; a later one gives a
/// handover without a device. Errors: EPIPE.
Result<void> tell_keeper(int link, const fuse::Handover& handover);

/// Waits for what the server tells. nullopt: the server is dead, and everything that it told was read.
Result<std::optional<fuse::Handover>> hear_server(int link);

}  // namespace layerfs::mount
